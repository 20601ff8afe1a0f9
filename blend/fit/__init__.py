"""From aligned predictions to weights."""
