"""What TensorBoard asks to profile a server."""
