"""One module per task: rows, labels, encoding, decoding and measures, without torch."""
