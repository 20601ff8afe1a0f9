"""What in a prepared folder could mislead."""
