"""How a model learns an experience, one strategy a file. Heavy imports sit inside methods."""
