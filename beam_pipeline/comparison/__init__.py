"""Two finished runs, held against each other."""
