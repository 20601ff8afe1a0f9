"""The last checks before `submission.csv`, and the manifest beside it."""
