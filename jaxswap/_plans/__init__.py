"""The result of a search as a `Plan`: to read, to edit, to save, to find again."""
