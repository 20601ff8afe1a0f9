"""Searches as jobs of a Ray cluster: launch, follow, stop, fetch; what machines have and cost."""
