"""blendfold: the one name for the four packages, on the command line and in Python."""
