"""What the driver decides, without Ray."""
