"""What the report shows, gathered from the files of a run directory as plain values."""
