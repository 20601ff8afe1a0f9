"""How good a fitted blend is, and how sure that is."""
