"""Layers that count their passes."""

from __future__ import annotations

from minicaffe.core.layer import Layer
from minicaffe.saved import whole


class CountsPasses(Layer):
    """Base of layers that count forward passes; those in TRAIN are the iterations, where iter_size is 1.

    passes: how many the layer has counted; part of a snapshot.  A layer that reads it sets `capturable` to False: the
    kernels of a captured step would go on with the values of its first pass.
    """

    passes = 0

    def state(self):
        return super().state() | {"passes": self.passes}

    def load_state(self, state):
        super().load_state(state)
        self.load_common_state(state)

    def load_common_state(self, state):
        self.passes = whole(state, "passes")
