"""The last check before a `submission.csv`, with the manifest beside it."""
