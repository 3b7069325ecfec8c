"""Blobs, layers by their contract, nets: what knows no type of layer."""
