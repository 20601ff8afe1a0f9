"""How good a blend is, and how sure that is."""
