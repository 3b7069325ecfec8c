"""Forward pass of a net in TEST as one CUDA graph."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from minicaffe.core.fusion import Fused
from minicaffe.core.places import observed
from minicaffe.cuda import context
from minicaffe.cuda.graph import CapturedStep
from minicaffe.cuda.step import Attributes, obstacle

log = logging.getLogger("minicaffe")


class CapturedForward:
    """Runs forward passes over all layers of a net, from the second one on as replays of a CUDA graph.

    The graph is discarded, and the next pass but one captures another, when what it depends on has changed: shapes and
    memory of the net's blobs and parameters, attributes of layers, groups that are computed as one, the precision of
    products (`set_math`).  Passes of layers that work on the host run without a graph.
    """

    def __init__(self, net: Any) -> None:
        self._net = weakref.ref(net)  # which owns this object
        self._work: list[Callable[[], None]] = []  # the pass that is running
        self._captured: CapturedStep | None = None
        self._parts: tuple = ()
        self._attributes = Attributes([])

    def __call__(self, work: Callable[[], None], groups: Mapping[int, Fused]) -> None:
        """Run a pass: `work`, which computes these groups as one, or the replay of an earlier one."""
        net = self._net()
        if observed.observer is not None or obstacle(net):
            self._captured = None
            work()
            return
        if self._captured is None or not self._captured.in_place or not self._unchanged(groups):
            pending = self._work
            self._captured = CapturedStep(lambda: pending[-1](), report=log.debug)
        captured = self._captured
        self._work.append(work)
        try:
            captured()
        finally:
            self._work.pop()
        if captured.captured:  # the results have been written since `work` ended
            for group in groups.values():
                if group.intact:
                    group.finish()
        if not self._unchanged(groups):  # the first pass allocates buffers; a data layer changes its attributes
            self._remember(net, groups)

    def _unchanged(self, groups: Mapping[int, Fused]) -> bool:
        return self._parts == (context.math(), groups) and self._attributes.unchanged()

    def _remember(self, net: Any, groups: Mapping[int, Fused]) -> None:
        blobs = SimpleNamespace(layers=net.layers, bottoms=net.bottoms, tops=net.tops, groups=groups)
        self._parts, self._attributes = (context.math(), groups), Attributes([blobs, *net.layers])
