"""How a search runs on Ray Tune."""
