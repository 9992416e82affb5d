"""Drift, estimates and the prediction log. Importing it has no effect and loads no numpy."""
