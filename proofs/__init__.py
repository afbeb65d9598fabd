"""What was shown once, and can be shown again."""
