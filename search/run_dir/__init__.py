"""The run directory: every file of a search, with the code that reads and writes it."""
