"""Data sets, written to the files that the prototxts in models/ read."""
