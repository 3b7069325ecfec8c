"""Net: the layers of a prototxt, connected by blobs.

Building is in build.py, passes in running.py, what scripts call in scripting.py, names and numbers of blobs in
naming.py, files of weights in weights.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.core import weights
from minicaffe.core.blob import Blob
from minicaffe.core.build import NetBuilder
from minicaffe.core.guard import Guard, guarded
from minicaffe.core.layer import Layer
from minicaffe.core.matching import match
from minicaffe.core.notebook import Shown
from minicaffe.core.passes import filter_net, insert_splits
from minicaffe.core.recompute import RecomputingPlan, plan_for
from minicaffe.core.scripting import Scripting, names_in
from minicaffe.core.sharing import Plan, Sharing
from minicaffe.errors import NetError, UsageError
from minicaffe.proto import TEST, TRAIN, caffe_pb2, read_net, upgrade_net

log = logging.getLogger("minicaffe")


class Net(Scripting, Shown):
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
            hint = "; give its to_proto()" if hasattr(network, "to_proto") else ""
            got = f"{type(network).__name__}{hint}"
            raise UsageError(f"Net: expected the path of a prototxt or a NetParameter, got {got}")
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
        built = NetBuilder(insert_splits(filtered, param), param.state.phase, dtype).build()
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
        self._prepare_to_run()
        self.plan: Plan | None = plan_for(self, Sharing.RECOMPUTE)

    def clear_param_diffs(self) -> None:
        """Set the diffs of all learnable parameters to zero."""
        for blob in self.learnable_params:
            blob.clear_diff()

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
        others; a warning names the layers with parameters that took none from any file.  UsageError for anything else
        than paths.
        """
        for each in (path, *more):
            if not isinstance(each, (str, os.PathLike)):
                raise UsageError(
                    f"copy_from: expected the paths of files, got {type(each).__name__}; several files are several "
                    "arguments"
                )
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
