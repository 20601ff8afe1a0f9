"""One fold run: training, checkpoints, predictions."""
