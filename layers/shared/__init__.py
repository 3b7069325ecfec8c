"""What several types have in common: base classes, and the numpy code of products and windows."""
