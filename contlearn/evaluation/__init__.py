"""Scores of a version on held-out sets, and the gate that decides on them."""
