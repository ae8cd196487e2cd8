"""Numbers that the server keeps about itself."""
