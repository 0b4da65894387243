"""Numbers and text that every floor uses: units, errors."""
