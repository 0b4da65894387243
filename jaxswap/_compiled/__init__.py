"""The text of a compiled program -> its memory, its copies, what devices exchange."""
