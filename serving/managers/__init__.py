"""Managers decide which versions are in memory, and keep them there."""
