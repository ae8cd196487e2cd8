"""The languages that clients speak, one folder each."""
