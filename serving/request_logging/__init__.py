"""Request logs: which calls are logged, and how that gets to disk without holding calls up."""
