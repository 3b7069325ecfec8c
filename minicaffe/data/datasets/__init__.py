"""Data sets, written in the files that the prototxts in models/ name."""
