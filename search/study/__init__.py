"""A study file and the candidates that it asks for."""
