"""From rows to batches of token ids."""
