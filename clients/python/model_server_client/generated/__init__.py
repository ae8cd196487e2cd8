"""Message classes made from protos/ by scripts/generate; never edited."""
