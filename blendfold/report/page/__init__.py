"""The page of the report: its blocks, its template, its style and its script."""
