"""Text, screens and drawings to train on, drawn anew for every index."""
