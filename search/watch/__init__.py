"""What people and dashboards see of a search; nothing here decides anything."""
