"""What can be told of a model before a server serves it."""
