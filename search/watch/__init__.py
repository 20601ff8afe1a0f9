"""What people and dashboards see of a search."""
