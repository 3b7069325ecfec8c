"""Trainings that are killed and resumed, and compared with the same training uninterrupted."""
