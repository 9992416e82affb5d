"""A real story in a few minutes: four domains of sentiment arrive one after the other."""
