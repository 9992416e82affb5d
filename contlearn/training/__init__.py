"""Fitting a challenger. Importing this package loads no torch."""
