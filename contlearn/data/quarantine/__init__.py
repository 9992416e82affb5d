"""Rows that were refused: kept line by line, looked at, corrected, taken back."""
