"""File formats, one a file: bytes in, rows out, bounded in size and depth."""
