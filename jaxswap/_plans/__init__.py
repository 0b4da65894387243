"""What a search decided: to look at, to save, to find again."""
