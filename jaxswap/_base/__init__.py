"""What every other folder uses: units, checks of arguments, errors, files."""
