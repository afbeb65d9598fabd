"""The networks: linen modules configured by frozen dataclasses, named as diffusers names them."""
