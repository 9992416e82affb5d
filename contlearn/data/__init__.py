"""Labelled files in, checked records out: parsing, quarantine, duplicates, the split, segments."""
