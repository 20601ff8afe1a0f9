"""From aligned predictions to members, calibration and weights."""
