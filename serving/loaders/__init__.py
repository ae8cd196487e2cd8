"""Loaders make versions servable, one file a platform."""
