"""A page to upscale photos on, served from this machine."""
