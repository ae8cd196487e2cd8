"""Listens to the parts of the server, which know no metrics, and counts."""
