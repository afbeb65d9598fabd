"""Weights of other programs, made into model folders and checked against them."""
