"""How calls are observed, and who listens: traces, the access log, and the lines of the log."""
