"""What in a prepared folder could mislead: repeats, texts on both sides of a split, leakage."""
