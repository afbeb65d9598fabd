"""The losses of the three stages: pure functions of arrays."""
