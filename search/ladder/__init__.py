"""The fold ladder decides from what was observed which fold run stops, waits or starts next."""
