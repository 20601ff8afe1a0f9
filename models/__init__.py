"""One candidate and one fold in, predictions out."""
