"""Side-by-side measurements against other upscalers; each command prints one table."""
