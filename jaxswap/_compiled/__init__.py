"""The text of a compiled program -> what it does with memory."""
