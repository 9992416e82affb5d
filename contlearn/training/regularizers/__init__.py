"""Penalties that any strategy can be combined with, one a file."""
