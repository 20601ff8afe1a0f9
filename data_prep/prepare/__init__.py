"""From CSV files to the prepared folder."""
