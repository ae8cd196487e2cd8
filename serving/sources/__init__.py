"""Sources find the versions that should be served."""
