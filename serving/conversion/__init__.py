"""Makes models that a living runtime computes of those whose own is not, or is not as good."""
