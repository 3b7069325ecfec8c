"""What runs in a net: passes forward and backward over its layers, and what observes them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicaffe.core import debug_info
from minicaffe.core.blob import Blob
from minicaffe.core.engine import Engine
from minicaffe.core.fusion import Fused, find
from minicaffe.core.guard import guarded
from minicaffe.core.layer import Layer
from minicaffe.core.naming import Naming
from minicaffe.core.params import SharedParams
from minicaffe.core.settings import settings
from minicaffe.core.sharing import Plan
from minicaffe.errors import NetError
from minicaffe.proto import TEST

Callback = Callable[[int], None]


@dataclass
class Callbacks:
    """Functions of a layer's index that a script has added to a net; they are called in the order of addition."""

    before_forward: list[Callback] = field(default_factory=list)
    after_forward: list[Callback] = field(default_factory=list)
    before_backward: list[Callback] = field(default_factory=list)
    after_backward: list[Callback] = field(default_factory=list)

    @property
    def around_forward(self) -> bool:
        """Whether there are any for forward passes."""
        return bool(self.before_forward or self.after_forward)

    @property
    def around_backward(self) -> bool:
        """Whether there are any for backward passes."""
        return bool(self.before_backward or self.after_backward)

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return self.around_forward or self.around_backward


class Running(Naming):
    """Mixin of `Net`: its passes.  `Net` provides the parallel lists of layers, and calls `_prepare_to_run`."""

    layers: list[Layer]
    bottoms: list[list[Blob]]
    tops: list[list[Blob]]
    bottom_need_backward: list[list[bool]]
    layer_need_backward: list[bool]
    shared_params: SharedParams
    debug_info: bool
    phase: int
    plan: Plan | None  #: of the buffers that blobs share

    def _prepare_to_run(self) -> None:
        """Make what belongs to passes."""
        self.callbacks = Callbacks()
        self._fused: dict[Engine, dict[int, Fused]] = {}
        self._whole_passes: dict[Engine, Callable[[Callable[[], None], Any], None] | None] = {}
        self._passed: Callback | None = None  # of the backward pass that is running
        self.ran_backward = False  #: whether it has run backward: some groups are used only before that
        self._ran_with: list[Engine | None] = [None] * len(self.layers)  # what ran each layer's last forward pass

    @guarded
    def forward_from_to(self, start: int, end: int) -> float:
        """Run layers start to end (inclusive), by index; return their weighted loss."""
        self.run_forward(start, end)
        self.settle()
        return self.loss(start, end)

    @guarded
    @np.errstate(all="ignore")  # a net that diverges shows it in its loss
    def run_forward(self, start: int = 0, end: int | None = None) -> None:
        """Run layers start to end (inclusive) without reading the loss back from the device.

        Raises `NetError` while another thread runs this net.
        """
        end = len(self.layers) - 1 if end is None else end
        single = self.callbacks.around_forward or self.debug_info
        groups = {} if single else self.fused
        run = self.forward_layers if self.plan is None else self.plan.forward
        self._ran_with[start : end + 1] = [settings.engine] * (end + 1 - start)
        whole = None if single or (start, end) != (0, len(self.layers) - 1) else self._whole_pass
        if whole is None:
            run(start, end, groups)
        else:
            whole(lambda: run(start, end, groups), groups)

    @property
    def _whole_pass(self) -> Callable[[Callable[[], None], Any], None] | None:
        """What runs passes over all layers in TEST on the engine; None: nothing but the passes."""
        engine = settings.engine
        if engine not in self._whole_passes:
            self._whole_passes[engine] = engine.forward_pass(self) if self.phase == TEST else None
        return self._whole_passes[engine]

    def forward_layers(self, start: int, end: int, groups: Mapping[int, Fused]) -> None:
        """Run layers start to end (inclusive), those of a group as one."""
        layers, bottoms, tops, callbacks = self.layers, self.bottoms, self.tops, self.callbacks
        ran = []
        i = start - 1
        while i < end:
            i += 1
            group = groups.get(i)
            if group is not None and group.end <= end:
                try:
                    group.forward()
                except MemoryError as error:
                    raise layers[i].no_room(error) from error
                ran.append(group)
                i = group.end
                continue
            for callback in callbacks.before_forward:
                callback(i)
            layers[i].forward(bottoms[i], tops[i])
            for callback in callbacks.after_forward:
                callback(i)
            if self.debug_info:
                debug_info.forward(self, i)
        for group in ran:
            group.finish()

    @property
    def fused(self) -> dict[int, Fused]:
        """The groups of layers that are computed as one, by the index of their first layer."""
        engine = settings.engine
        if engine not in self._fused:
            self._fused[engine] = find(self, engine)
        return self._fused[engine]

    def loss(self, start: int = 0, end: int | None = None) -> float:
        """The weighted loss of layers start to end (inclusive) as their tops hold it now."""
        stop = len(self.layers) if end is None else end + 1
        return sum(self.layers[i].loss(self.tops[i]) for i in range(start, stop) if self.layers[i].has_loss)

    @guarded
    @np.errstate(all="ignore")
    def backward_from_to(self, start: int, end: int) -> None:
        """Run layers start down to end (inclusive), by index, those that need it.

        Raises `NetError` where layers ran forward on the CPU and would run backward on the GPU, or the reverse.
        """
        self._check_mode(start, end)
        if not self.ran_backward:
            self._end_forward_only()
        groups = {} if self.callbacks.around_backward or self.debug_info else self.fused
        run = self.backward_layers if self.plan is None else self.plan.backward
        run(start, end, groups)

    def backward_layers(self, start: int, end: int, groups: Mapping[int, Fused]) -> None:
        """Run layers start down to end (inclusive), those that need it, those of a group as one."""
        by_end = {group.end: group for group in groups.values() if group.runs_backward}
        layers, bottoms, tops, callbacks = self.layers, self.bottoms, self.tops, self.callbacks
        needed, propagate_down, passed = self.layer_need_backward, self.bottom_need_backward, self._passed
        i = start + 1
        while i > end:
            i -= 1
            group = by_end.get(i)
            if group is not None and group.start >= end:
                self._backward_of_group(group)
                i = group.start
            else:
                for callback in callbacks.before_backward:
                    callback(i)
                if needed[i]:
                    layers[i].backward(tops[i], propagate_down[i], bottoms[i])
                    if self.debug_info:
                        debug_info.backward(self, i)
                for callback in callbacks.after_backward:
                    callback(i)
            if passed is not None:
                passed(i)

    def _backward_of_group(self, group: Fused) -> None:
        try:
            if any(self.layer_need_backward[group.start : group.end + 1]):
                group.backward()
        except MemoryError as error:
            raise self.layers[group.end].no_room(error) from error

    def _end_forward_only(self) -> None:
        """Before the first backward pass: find other groups where some are not for nets that run backward."""
        self.ran_backward = True
        for engine, groups in tuple(self._fused.items()):
            if any(group.until_backward for group in groups.values()):
                del self._fused[engine]

    def _check_mode(self, start: int, end: int) -> None:
        """What layers keep for backward is where they ran forward."""
        engine = settings.engine
        for i in range(start, end - 1, -1):
            ran_with = self._ran_with[i]
            if ran_with is not None and ran_with is not engine and self.layer_need_backward[i]:
                there, here = ran_with.mode, engine.mode
                raise NetError(
                    f"layer '{self.layer_names[i]}' ran forward on the {there}, so it cannot run backward on the "
                    f"{here}: run forward again after changing the mode"
                )

    @guarded
    def run_backward(self, passed: Callback | None = None) -> None:
        """Run the whole net backwards; parameter diffs are added to, see `clear_param_diffs`.

        passed: called with the index of each layer when it and those after it have run; for layers that are fused,
            with that of the first of them (default: nothing is called).
        """
        self._passed = passed
        try:
            self.backward_from_to(len(self.layers) - 1, 0)
        finally:
            self._passed = None
        if self.debug_info:
            debug_info.totals(self)

    @guarded
    def forward_backward(self) -> float:
        """One forward and one backward pass over the whole net; return the loss."""
        self.run_forward()
        self.run_backward()
        self.settle()
        return self.loss()

    def settle(self) -> None:
        """Bring views that scripts hold up to date after passes on the GPU; on the CPU each layer has done so."""
        if not settings.engine.settles_each_layer:
            for blob in (*self._blobs, *self.shared_params.blobs):
                blob.settle()

    @property
    def observed(self) -> bool:
        """Whether callbacks or `debug_info` read the blobs during a pass."""
        return self.debug_info or self.callbacks.any

    @contextlib.contextmanager
    def unobserved(self) -> Iterator[None]:
        """Run layers without callbacks and without the lines of `debug_info`."""
        was = self.callbacks, self.debug_info
        self.callbacks, self.debug_info = Callbacks(), False
        try:
            yield
        finally:
            self.callbacks, self.debug_info = was

    @guarded
    def reshape(self) -> None:
        """Carry new input shapes through all layers without computing."""
        if self.plan is None:
            self._reshape_layers()
        else:
            self.plan.reshape(self._reshape_layers)

    def _reshape_layers(self) -> None:
        for layer, bottom, top in zip(self.layers, self.bottoms, self.tops):
            layer.reshape_if_needed(bottom, top)
