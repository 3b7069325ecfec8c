"""Net: the layers of a prototxt, wired, and run forwards and backwards.

Building is in net_builder.py, the weights' files in weights.py, what pycaffe adds for scripts in scripting.py,
the `debug_info` lines in debug_info.py.  Here is what runs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minicaffe import debug_info, weights
from minicaffe.blob import Blob
from minicaffe.config import config
from minicaffe.errors import NetError, UsageError
from minicaffe.layer import Layer
from minicaffe.net_builder import NetBuilder
from minicaffe.passes import filter_net, insert_splits
from minicaffe.proto import caffe_pb2, read_net, upgrade_net
from minicaffe.scripting import Scripting

log = logging.getLogger("minicaffe")


class Net(Scripting):
    """A net in one phase.

    network (or network_file): path of a prototxt, or a NetParameter.
    phase: TRAIN (0) or TEST (1); by default the NetParameter's own `state.phase`.
    level, stages: what `include` and `exclude` rules look at, beside the phase.
    weights: path of a .caffemodel or .caffemodel.h5 to start from.
    dtype: float32, or float64 to check gradients.

    The legacy call `Net(network, weights, phase)` works too.

    Attributes: `layers`, `blobs` and `params` by name in order, `inputs`, `outputs` (names), `learnable_params` with
    `lr_mults` and `decay_mults`.
    """

    def __init__(
        self,
        network: str | os.PathLike | Any = None,
        *args: Any,
        phase: int | None = None,
        level: int = 0,
        stages: Sequence[str] | None = None,
        weights: str | os.PathLike | None = None,
        dtype: np.typing.DTypeLike = np.float32,
        network_file: str | None = None,
    ) -> None:
        phase, level, stages, weights = _pycaffe_arguments(args, phase, level, stages, weights)
        network = network_file if network is None else network
        given = not isinstance(network, caffe_pb2.NetParameter)
        if given and phase is None:
            raise UsageError("Net: expected a phase, minicaffe.TRAIN or minicaffe.TEST, after the prototxt, got none")
        param = read_net(os.fspath(network)) if given else _upgraded(network)
        if phase is not None:
            param.state.phase = phase
        if level:
            param.state.level = level
        param.state.stage.extend(stages or [])
        self._build(param, np.dtype(dtype))
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of_upgraded(cls, param) -> Net:
        """The net of a NetParameter that is in today's form already, as `read_net` gives it, its state set."""
        net = cls.__new__(cls)
        net._build(param, np.dtype(np.float32))
        return net

    def _build(self, param, dtype: np.dtype) -> None:
        filtered = filter_net(param)
        log.info("Initializing net from parameters:\n%s", filtered)
        built = NetBuilder(insert_splits(filtered), param.state.phase, dtype).build()
        self.param = built.param  #: the NetParameter after all passes
        self.name: str = param.name
        self.phase: int = param.state.phase
        self.dtype = dtype
        self.debug_info: bool = param.debug_info
        self.layers: list[Layer] = built.layers
        self._layer_names = built.layer_names
        self.blobs: dict[str, Blob] = built.blobs
        self.blob_loss_weights = built.blob_loss_weights
        self.inputs: list[str] = built.inputs
        self.outputs: list[str] = built.outputs
        self.bottoms, self.tops = built.bottoms, built.tops
        self._bottom_names, self._top_names = built.bottom_names, built.top_names
        self.bottom_need_backward = built.bottom_need_backward
        self.layer_need_backward = built.layer_need_backward
        self.shared_params = built.params
        self.learnable_params: list[Blob] = built.params.learnable
        self.lr_mults, self.decay_mults = built.params.lr_mults, built.params.decay_mults
        self._before_forward: list[Callable[[int], None]] = []
        self._after_forward: list[Callable[[int], None]] = []
        self._before_backward: list[Callable[[int], None]] = []
        self._after_backward: list[Callable[[int], None]] = []
        self._chains: dict[bool, dict[int, Any]] = {}  # on the CPU, on the GPU

    # -- running ---------------------------------------------------------------------------------------------------

    def forward_from_to(self, start: int, end: int) -> float:
        """Run layers start to end (inclusive), by index; return their weighted loss."""
        self.run_forward(start, end)
        return self.loss(start, end)

    @np.errstate(all="ignore")  # a net that diverges says so in its loss
    def run_forward(self, start: int = 0, end: int | None = None) -> None:
        """Run layers start to end (inclusive) without reading the loss back from the device."""
        end = len(self.layers) - 1 if end is None else end
        chains = {} if self._before_forward or self._after_forward or self.debug_info else self.chains
        i = start - 1
        while i < end:
            i += 1
            chain = chains.get(i)
            if chain is not None and chain.end <= end:
                chain.forward()
                i = chain.end
                continue
            for callback in self._before_forward:
                callback(i)
            self.layers[i].forward(self.bottoms[i], self.tops[i])
            for callback in self._after_forward:
                callback(i)
            if self.debug_info:
                debug_info.forward(self, i)

    @property
    def chains(self) -> dict[int, Any]:
        """Groups of layers that an engine computes in one go, by the index of their first layer."""
        if config.gpu not in self._chains:
            self._chains[config.gpu] = {}
            if config.gpu:
                from minicaffe.layers.chains_gpu import find_chains
            else:
                from minicaffe.layers.onednn.fusion import find_chains
            if config.gpu or any(layer.engine == "ONEDNN" for layer in self.layers):
                self._chains[config.gpu] = {chain.start: chain for chain in find_chains(self)}
        return self._chains[config.gpu]

    def loss(self, start: int = 0, end: int | None = None) -> float:
        """The weighted loss of layers start to end (inclusive) as their tops hold it now."""
        stop = len(self.layers) if end is None else end + 1
        return sum(self.layers[i].loss(self.tops[i]) for i in range(start, stop) if self.layers[i].has_loss)

    @np.errstate(all="ignore")
    def backward_from_to(self, start: int, end: int) -> None:
        """Run layers start down to end (inclusive), by index, those that need it."""
        chains = {} if self._before_backward or self._after_backward or self.debug_info else self.chains
        by_end = {chain.end: chain for chain in chains.values() if chain.runs_backward}
        for chain in self.chains.values():
            chain.before_backward()
        i = start + 1
        while i > end:
            i -= 1
            chain = by_end.get(i)
            if chain is not None and chain.start >= end:
                if any(self.layer_need_backward[chain.start : chain.end + 1]):
                    chain.backward()
                i = chain.start
                continue
            for callback in self._before_backward:
                callback(i)
            if self.layer_need_backward[i]:
                self.layers[i].backward(self.tops[i], self.bottom_need_backward[i], self.bottoms[i])
                if self.debug_info:
                    debug_info.backward(self, i)
            for callback in self._after_backward:
                callback(i)

    def run_backward(self) -> None:
        """Run the whole net backwards; parameter diffs are added to, see `clear_param_diffs`."""
        self.backward_from_to(len(self.layers) - 1, 0)
        if self.debug_info:
            debug_info.totals(self)

    def forward_backward(self) -> float:
        """One forward and one backward pass over the whole net; return the loss."""
        self.run_forward()
        self.run_backward()
        return self.loss()

    def reshape(self) -> None:
        """Carry new input shapes through all layers without computing."""
        for layer, bottom, top in zip(self.layers, self.bottoms, self.tops):
            layer.reshape_if_needed(bottom, top)

    def clear_param_diffs(self) -> None:
        """Set the diffs of all learnable parameters to zero."""
        for blob in self.learnable_params:
            blob.clear_diff()

    # -- parameters ------------------------------------------------------------------------------------------------

    def share_with(self, other: Net) -> None:
        """Use the parameters of the other net's layers of the same names: one memory for both nets.

        Layers that the other net lacks keep their own; a different number or shape raises `NetError`.
        """
        by_name = {name: layer for name, layer in reversed(list(zip(other._layer_names, other.layers)))}
        for name, layer in zip(self._layer_names, self.layers):
            source = by_name.get(name)
            if source is None:
                continue
            if [b.shape for b in layer.blobs] != [b.shape for b in source.blobs]:
                raise NetError(
                    f"layer '{name}': cannot share trained parameters: expected blobs of shapes "
                    f"{[b.shape for b in layer.blobs]}, got {[b.shape for b in source.blobs]}"
                )
            for mine, theirs in zip(layer.blobs, source.blobs):
                mine.share_data(theirs)

    def copy_from(self, path: str | os.PathLike) -> None:
        """Take weights from a .caffemodel or .caffemodel.h5, by layer name; see `weights.load`."""
        weights.load(self, os.fspath(path))

    def save(self, path: str | os.PathLike) -> None:
        """Write the weights as a binary NetParameter (.caffemodel)."""
        weights.save_binary(self, os.fspath(path))

    def load_hdf5(self, path: str | os.PathLike) -> None:
        """Take weights from an HDF5 file (.caffemodel.h5)."""
        weights.load_hdf5(self, os.fspath(path))

    def save_hdf5(self, path: str | os.PathLike, write_diff: bool = False) -> None:
        """Write the weights, and with `write_diff` their diffs, as HDF5 (.caffemodel.h5)."""
        weights.save_hdf5(self, os.fspath(path), write_diff)

    def to_proto(self, write_diff: bool = False):
        """The NetParameter with the learned blobs in it."""
        return weights.to_proto(self, write_diff)

    def __repr__(self) -> str:
        phase = "TEST" if self.phase else "TRAIN"
        return f"<Net '{self.name}' ({phase}): {len(self.layers)} layers, {len(self.blobs)} blobs>"


def _upgraded(message):
    copy = type(message)()
    copy.CopyFrom(message)
    return upgrade_net(copy)


def _pycaffe_arguments(args, phase, level, stages, weights):
    """`(phase, level, stages, weights)` from positional ones: pycaffe's order, or the legacy (weights, phase)."""
    if args and not isinstance(args[0], (int, np.integer)):
        if len(args) != 2:
            raise UsageError(f"Net: expected Net(prototxt, phase, ...) or Net(prototxt, weights, phase), got {args}")
        return args[1], level, stages, args[0]
    for i, value in enumerate(args):
        if i == 0:
            phase = value
        elif i == 1:
            level = value
        elif i == 2:
            stages = value
        elif i == 3:
            weights = value
        else:
            raise UsageError(f"Net: expected at most (prototxt, phase, level, stages, weights), got {len(args) + 1}")
    return phase, level, stages, weights
