"""Net: the layers of a prototxt, wired, and run forwards and backwards.

Building is in net_builder.py, the weights' files in weights.py, what pycaffe adds for scripts in scripting.py,
the `debug_info` lines in debug_info.py.  Here is what runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minicaffe.core import debug_info, weights
from minicaffe.core.blob import Blob
from minicaffe.core.build import NetBuilder
from minicaffe.core.engine import Engine
from minicaffe.core.fusion import Fused, find
from minicaffe.core.guard import Guard, guarded
from minicaffe.core.layer import Layer
from minicaffe.core.matching import match
from minicaffe.core.passes import filter_net, insert_splits
from minicaffe.core.recompute import RecomputingPlan, plan_for
from minicaffe.core.scripting import Scripting, names_in
from minicaffe.core.settings import settings
from minicaffe.core.sharing import Plan, Sharing
from minicaffe.errors import NetError, UsageError
from minicaffe.proto import TEST, TRAIN, caffe_pb2, read_net, upgrade_net

log = logging.getLogger("minicaffe")


class Net(Scripting):
    """A net in one phase.

    network (or network_file): path of a prototxt, or a NetParameter.
    phase: TRAIN or TEST; by default the NetParameter's own `state.phase`.
    level, stages: for `include` and `exclude` rules, beside the phase; one stage may be a plain string.
    weights: path of a .caffemodel or .caffemodel.h5 to start from.
    dtype: float32, or float64 to check gradients.

    The legacy call `Net(network, weights, phase)` works too.

    Attributes: `blobs` and `params` by name in order, `inputs`, `outputs` (names), `learnable_params` with `lr_mults`
    and `decay_mults`.  Parallel lists with an entry for each layer: `layers`, `layer_names`, `bottoms`, `tops`,
    `names_of_bottoms`, `names_of_tops`, `layer_need_backward`, `bottom_need_backward`.
    """

    def __init__(
        self,
        network: str | os.PathLike | caffe_pb2.NetParameter | None = None,
        *args: Any,
        phase: int | None = None,
        level: int = 0,
        stages: str | Sequence[str] | None = None,
        weights: str | os.PathLike | None = None,
        dtype: np.typing.DTypeLike = np.float32,
        network_file: str | None = None,
    ) -> None:
        phase, level, stages, weights = _pycaffe_arguments(args, phase, level, stages, weights)
        network = network_file if network is None else network
        if isinstance(network, caffe_pb2.NetParameter):
            param = _upgraded(network)
        elif phase is None:
            raise UsageError("Net: expected a phase, minicaffe.TRAIN or minicaffe.TEST, after the prototxt, got none")
        elif not isinstance(network, (str, os.PathLike)):
            raise UsageError(f"Net: expected the path of a prototxt or a NetParameter, got {type(network).__name__}")
        else:
            param = read_net(os.fspath(network))
        if phase is not None:
            param.state.phase = phase
        if level:
            param.state.level = level
        param.state.stage.extend(stages)
        self._build(param, np.dtype(dtype))
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of_upgraded(cls, param: caffe_pb2.NetParameter) -> Net:
        """The net of a NetParameter that is in today's form already, as `read_net` gives it, its state set."""
        net = cls.__new__(cls)
        net._build(param, np.dtype(np.float32))
        return net

    def _build(self, param, dtype: np.dtype) -> None:
        self.guard = Guard(f"net '{param.name}'")
        filtered = filter_net(param)
        log.info("Initializing net from parameters:\n%s", filtered)
        built = NetBuilder(insert_splits(filtered), param.state.phase, dtype).build()
        self.param = built.param  #: the NetParameter after all passes
        self.name: str = param.name
        self.phase: int = param.state.phase
        self.dtype = dtype
        self.debug_info: bool = param.debug_info
        self.layers: list[Layer] = built.layers
        self.layer_names = built.layer_names
        self.inputs: list[str] = built.inputs
        self.outputs: list[str] = built.outputs
        self.bottoms, self.tops = built.bottoms, built.tops
        self.names_of_bottoms, self.names_of_tops = built.bottom_names, built.top_names
        self._name_blobs()
        self.bottom_need_backward = built.bottom_need_backward
        self.layer_need_backward = built.layer_need_backward
        self.shared_params = built.params
        self.learnable_params: list[Blob] = built.params.learnable
        self.lr_mults, self.decay_mults = built.params.lr_mults, built.params.decay_mults
        self._before_forward: list[Callable[[int], None]] = []
        self._after_forward: list[Callable[[int], None]] = []
        self._before_backward: list[Callable[[int], None]] = []
        self._after_backward: list[Callable[[int], None]] = []
        self._fused: dict[Engine, dict[int, Fused]] = {}
        self.ran_backward = False  #: whether it has run backward: some groups are used only before that
        self._ran_with: list[Engine | None] = [None] * len(self.layers)  # what ran each layer's last forward pass
        self.plan: Plan | None = plan_for(self, Sharing.RECOMPUTE)

    # -- running ---------------------------------------------------------------------------------------------------

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
        groups = {} if self._before_forward or self._after_forward or self.debug_info else self.fused
        run = self._forward_layers if self.plan is None else self.plan.forward
        run(start, end, groups)

    def _forward_layers(self, start: int, end: int, groups: Mapping[int, Fused]) -> None:
        """Run layers start to end (inclusive), those of a group as one."""
        self._ran_with[start : end + 1] = [settings.engine] * (end + 1 - start)
        ran = []
        i = start - 1
        while i < end:
            i += 1
            group = groups.get(i)
            if group is not None and group.end <= end:
                group.forward()
                ran.append(group)
                i = group.end
                continue
            for callback in self._before_forward:
                callback(i)
            self.layers[i].forward(self.bottoms[i], self.tops[i])
            for callback in self._after_forward:
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
        groups = {} if self._before_backward or self._after_backward or self.debug_info else self.fused
        run = self._backward_layers if self.plan is None else self.plan.backward
        run(start, end, groups)

    def _backward_layers(self, start: int, end: int, groups: Mapping[int, Fused]) -> None:
        """Run layers start down to end (inclusive), those that need it, those of a group as one."""
        by_end = {group.end: group for group in groups.values() if group.runs_backward}
        i = start + 1
        while i > end:
            i -= 1
            group = by_end.get(i)
            if group is not None and group.start >= end:
                if any(self.layer_need_backward[group.start : group.end + 1]):
                    group.backward()
                i = group.start
                continue
            for callback in self._before_backward:
                callback(i)
            if self.layer_need_backward[i]:
                self.layers[i].backward(self.tops[i], self.bottom_need_backward[i], self.bottoms[i])
                if self.debug_info:
                    debug_info.backward(self, i)
            for callback in self._after_backward:
                callback(i)

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
    def run_backward(self) -> None:
        """Run the whole net backwards; parameter diffs are added to, see `clear_param_diffs`."""
        self.backward_from_to(len(self.layers) - 1, 0)
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
        """Whether callbacks or `debug_info` look at the blobs during a pass."""
        callbacks = self._before_forward, self._after_forward, self._before_backward, self._after_backward
        return self.debug_info or any(callbacks)

    @contextlib.contextmanager
    def unobserved(self) -> Iterator[None]:
        """Run layers without callbacks and without the lines of `debug_info`."""
        callbacks, debug_info = (self._before_forward, self._after_forward), self.debug_info
        self._before_forward, self._after_forward, self.debug_info = [], [], False
        try:
            yield
        finally:
            (self._before_forward, self._after_forward), self.debug_info = callbacks, debug_info

    @guarded
    def share_memory(self, sharing: Sharing) -> None:
        """Choose whether blobs share buffers in passes over the whole net on the CPU.

        sharing: RECOMPUTE, the default, saves memory in TEST; a blob that is read between passes is computed again if
            its buffer was taken.  FORGET saves memory in TEST, and in TRAIN that of the diffs: reading a blob whose
            buffer was taken raises `BlobError`.  NEVER: every blob has a buffer of its own.
        """
        if self.plan is not None and self.plan.active:
            self.plan.end()
        self.plan = plan_for(self, sharing)

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

    def clear_param_diffs(self) -> None:
        """Set the diffs of all learnable parameters to zero."""
        for blob in self.learnable_params:
            blob.clear_diff()

    # -- parameters ------------------------------------------------------------------------------------------------

    def share_with(self, other: Net) -> None:
        """Use the parameters of the other net's layers of the same names: one memory for both nets.

        Parameters that this net shares by name stay one memory, and a named one whose layers the other net lacks takes
        the other net's parameter of that name.  Layers without a match keep their own; a different number or shape
        raises `NetError`.
        """
        for net in (self, other):
            if isinstance(net.plan, RecomputingPlan):
                net.share_memory(Sharing.NEVER)
        taken: set[tuple[int, int]] = set()
        for source, target in match(other.layers, self.layers):
            mine, theirs = self.layers[target].blobs, other.layers[source].blobs
            if [blob.shape for blob in mine] != [blob.shape for blob in theirs]:
                raise NetError(
                    f"layer '{self.layer_names[target]}': cannot share trained parameters: expected blobs of shapes "
                    f"{[blob.shape for blob in mine]}, got {[blob.shape for blob in theirs]}"
                )
            for j, blob in enumerate(mine):
                blob.share_data(theirs[j])
                taken.add((target, j))
        self.shared_params.follow(taken, other.shared_params)

    @guarded
    def copy_from(self, path: str | os.PathLike, *more: str | os.PathLike) -> None:
        """Take weights from .caffemodel or .caffemodel.h5 files, in order, by layer name.

        Raises `SnapshotError` for a file from which no layer takes anything, that is no weights, or whose shapes are
        others; a warning names the layers with parameters that took none from any file.
        """
        weights.load([self], [os.fspath(each) for each in (path, *more)])

    def save(self, path: str | os.PathLike) -> None:
        """Write the weights as a binary NetParameter (.caffemodel)."""
        weights.save_binary(self, os.fspath(path))

    @guarded
    def load_hdf5(self, path: str | os.PathLike) -> None:
        """Take weights from an HDF5 file (.caffemodel.h5)."""
        weights.load([self], [os.fspath(path)], hdf5=True)

    def save_hdf5(self, path: str | os.PathLike, write_diff: bool = False) -> None:
        """Write the weights, and with `write_diff` their diffs, as HDF5 (.caffemodel.h5)."""
        weights.save_hdf5(self, os.fspath(path), write_diff)

    def to_proto(self, write_diff: bool = False) -> caffe_pb2.NetParameter:
        """The NetParameter with the learned blobs in it."""
        return weights.to_proto(self, write_diff)

    def __del__(self) -> None:
        plan: Plan | None = getattr(self, "plan", None)  # there is none if building has failed
        if plan is not None:
            plan.close()

    def __repr__(self) -> str:
        phase = caffe_pb2.Phase.Name(self.phase)
        return f"<Net '{self.name}' ({phase}): {len(self.layers)} layers, {len(self._blob_dict)} blobs>"


def _upgraded(message: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    copy = type(message)()
    copy.CopyFrom(message)
    return upgrade_net(copy)


def _pycaffe_arguments(
    args: tuple, phase: Any, level: Any, stages: Any, weights: Any
) -> tuple[Any, int, list[str], Any]:
    """`(phase, level, stages, weights)` from positional ones: pycaffe's order, or the legacy (weights, phase).

    One stage may be given as a plain string.  UsageError for a phase, level or stage of another type.
    """
    if args and isinstance(args[0], (str, os.PathLike)):
        if len(args) != 2:
            raise UsageError(f"Net: expected Net(prototxt, phase, ...) or Net(prototxt, weights, phase), got {args}")
        weights, phase = args
    elif len(args) > 4:
        raise UsageError(f"Net: expected at most (prototxt, phase, level, stages, weights), got {len(args) + 1}")
    else:
        phase, level, stages, weights = args + (phase, level, stages, weights)[len(args) :]
    stages, level = names_in(stages), 0 if level is None else level
    if phase is not None and not (isinstance(phase, (int, np.integer)) and phase in (TRAIN, TEST)):
        raise UsageError(f"Net: the phase must be minicaffe.TRAIN or minicaffe.TEST, got {phase!r}")
    if not isinstance(level, (int, np.integer)):
        raise UsageError(f"Net: the level must be a number, got {level!r}; weights are given by name, weights=...")
    if not isinstance(weights, (str, os.PathLike, type(None))):
        raise UsageError(f"Net: the weights must be the path of a file, got {weights!r}")
    return phase, int(level), stages, weights
