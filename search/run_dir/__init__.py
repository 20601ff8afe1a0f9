"""The run directory: every file of a search, with its reader and writer."""
