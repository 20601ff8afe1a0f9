"""The seven parts of the report: each arranges paragraphs, tables and figures."""
