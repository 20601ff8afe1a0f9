"""The report: one offline page that shows a run directory, its blend and its data."""
