"""What a model is made of besides its backbone: heads, losses, regularizers."""
