"""The torch side of a model: encoder, pooling, growing head, and their files."""
