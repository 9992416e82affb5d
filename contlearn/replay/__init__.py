"""Bounded stores of past records, by id."""
