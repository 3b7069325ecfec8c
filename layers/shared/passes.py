"""Layers that do something else from a certain iteration on."""

from __future__ import annotations

from minicaffe.core.layer import Layer
from minicaffe.saved import whole


class CountsPasses(Layer):
    """Base of layers that count their forward passes in TRAIN: the iterations, where iter_size is 1.

    passes: how many there were before the present one; part of a snapshot.  A layer that reads it sets `capturable` to
    False: the kernels of a captured step would go on with the values of its first pass.
    """

    passes = 0

    def state(self):
        return super().state() | {"passes": self.passes}

    def load_state(self, state):
        super().load_state(state)
        self.passes = whole(state, "passes")
