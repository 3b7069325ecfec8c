"""Layers that follow one another, computed by an engine as one."""
