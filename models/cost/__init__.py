"""What a candidate costs, from its settings alone."""
