"""What is predicted for a row: one number, several numbers, or classes; a module for each kind."""
