"""Plan -> text, pictures and pages."""
