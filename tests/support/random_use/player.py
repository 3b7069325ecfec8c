"""The nets of a program on one engine, with the views and results that a script holds."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

from helpers.engines import ENGINES
from minicaffe.core.blob import Blob
from minicaffe.core.net import Net
from minicaffe.core.random import set_random_seed
from minicaffe.core.sharing import Sharing
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.solvers.registry import get_solver
from minicaffe.testing import CUDA, NUMPY, ONEDNN, EngineChoice, computing_with

#: name of a blob, or (layer name, index) of a parameter
Address = str | tuple[str, int]
#: the results of an operation: pairs (description, values)
Shown = list[tuple[str, np.ndarray]]


#: nets built on the CPU, which run there and on the GPU in turn
MIXED = replace(CUDA, name="mixed", engine="DEFAULT")


def played() -> list[EngineChoice]:
    """The engines to compare with numpy's code: all others that tests run on, and `MIXED`.

    oneDNN is chosen as the default, so that layers whose prototxt names another engine get that one.
    """
    others = [replace(each, engine="DEFAULT") if each == ONEDNN else each for each in ENGINES if each != NUMPY]
    return [*others, MIXED]


class Player:
    """Builds the nets of a program on one engine, and runs operations on them.

    noise: 0, or a seed of relative errors of about 1e-6, which are added to all values written and all results of
        layers, to measure the effect of rounding.
    """

    def __init__(self, program, engine: EngineChoice, noise: int = 0) -> None:
        self.program, self.engine = program, engine
        self.noise = np.random.default_rng(noise) if noise else None
        self._modes = Random(program.seed)
        self.gpu = engine.gpu and engine != MIXED
        self.views: dict[int, tuple[int, Address, str, np.ndarray]] = {}
        self.outputs: dict[str, np.ndarray] = {}
        self.nets: list[Net] = []
        with self.chosen():
            self._build()
        if engine == NUMPY:  # the reference
            for net in self.nets:
                net.share_memory(Sharing.NEVER)
        #: whether a whole forward pass has run since the last reshape
        self.ready = [False] * len(self.nets)
        #: whether all blobs have defined values, which is not so after a reshape
        self.defined = [True] * len(self.nets)
        self._ran_on_gpu = [self.gpu] * len(self.nets)
        self._counts = [{name: (blob.count, blob.count) for name, blob in net.blobs.items()} for net in self.nets]

    def _build(self) -> None:
        program = self.program
        set_random_seed(program.seed + 1)
        param = parse_text(program.text, caffe_pb2.NetParameter())
        self.solver: Any = None
        if program.trained:
            solver = caffe_pb2.SolverParameter(base_lr=0.01, lr_policy="fixed", momentum=0.9, weight_decay=0.001)
            solver.random_seed = program.seed + 1
            solver.net_param.CopyFrom(param)
            self.solver = get_solver(solver)
        self.nets.append(self.solver.net if self.solver else Net(param, phase=program.phase))
        if program.twin is not None:
            self.nets.append(Net(param, phase=program.twin))
            self.nets[1].share_with(self.nets[0])
        for name, blobs in self.nets[0].params.items():
            for j, blob in enumerate(blobs):
                if self.layer_type(name) == "BatchNorm":
                    blob.data = self.values(self.kind(0, (name, j), "data"), program.seed + j, blob.shape)
                elif self.noise is not None:
                    blob.data = self._noisy(blob.read_data())
        if self.noise is not None:
            for net in self.nets:
                self._make_noisy(net)

    def chosen(self) -> contextlib.AbstractContextManager[None]:
        """Within this block the engine is the player's."""
        return computing_with(self.engine.engine, self.gpu)

    def run(self, operation) -> Shown:
        """Run an operation; return copies of what it shows."""
        if self.engine == MIXED:
            self._change_mode(operation)
        with self.chosen():
            return [(what, np.array(values, np.float64)) for what, values in operation.run(self) or []]

    def _change_mode(self, operation) -> None:
        """Choose a random mode; a partial or backward pass uses that of the last forward pass over all layers."""
        self.gpu = self._modes.random() < 0.5
        if operation.begins_pass:
            self._ran_on_gpu[operation.net] = self.gpu
        elif operation.continues_pass:
            self.gpu = self._ran_on_gpu[operation.net]

    def passed(self, net: int) -> None:
        """Update the state after a forward pass over all layers.

        Clears the diffs of blobs that have grown again after having been smaller: they are undefined.
        """
        self.ready[net] = self.defined[net] = True
        counts = self._counts[net]
        for name, blob in self.nets[net].blobs.items():
            count, largest = counts[name]
            if count < blob.count <= largest:
                blob.diff = 0
            counts[name] = blob.count, max(largest, blob.count)

    # -- blobs -----------------------------------------------------------------------------------------------------

    def has(self, net: int, address: Address) -> bool:
        known = self.nets[net]
        return address in known.blobs if isinstance(address, str) else address[0] in known.params

    def blob(self, net: int, address: Address) -> Blob:
        known = self.nets[net]
        return known.blobs[address] if isinstance(address, str) else known.params[address[0]][address[1]]

    def addresses(self, net: int) -> list[Address]:
        """Return the addresses of all blobs and parameters."""
        known = self.nets[net]
        return [*known.blobs, *((name, j) for name, blobs in known.params.items() for j in range(len(blobs)))]

    # -- values ----------------------------------------------------------------------------------------------------

    def layer_type(self, name: str) -> str:
        return self.nets[0].layer_dict[name].type

    def kind(self, net: int, address: Address, what: str) -> str:
        """Return the kind of values that are valid for a blob: labels, positive values, weights, or any."""
        if what == "diff":
            return "any"
        if isinstance(address, str):
            memory, blobs = self.blob(net, address).data_memory, self.nets[net].blobs
            for label, classes in self.program.classes.items():
                if label in blobs and blobs[label].data_memory is memory:
                    return f"below {classes}"
            return "any"
        layer = self.layer_type(address[0])
        if (layer == "BatchNorm" and address[1] > 0) or (layer == "Scale" and address[1] == 0):
            return "positive"
        return "weights" if len(self.blob(net, address).shape) > 1 else "small"

    def values(self, kind: str, seed: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return random values of a kind."""
        rng = np.random.default_rng(seed)
        if kind.startswith("below "):
            return rng.integers(0, int(kind.removeprefix("below ")), shape).astype(np.float32)
        if kind == "positive":
            return self._noisy(rng.random(shape) + 0.5)
        scale = {"any": 1.0, "small": 0.3, "weights": max(1, np.prod(shape[1:])) ** -0.5}[kind]
        return self._noisy(rng.standard_normal(shape) * scale)

    def inputs(self, net: int, seed: int) -> dict[str, np.ndarray]:
        """Return random values for all inputs of a net."""
        shapes = {name: self.nets[net].blobs[name].shape for name in self.nets[net].inputs}
        return {
            name: self.values(self.kind(net, name, "data"), seed + i, shape)
            for i, (name, shape) in enumerate(shapes.items())
        }

    # -- noise -----------------------------------------------------------------------------------------------------

    def _noisy(self, values: np.ndarray) -> np.ndarray:
        if self.noise is None:
            return values
        return values * (1 + 1e-6 * self.noise.standard_normal(values.shape))

    def _make_noisy(self, net: Net) -> None:
        def after_forward(i: int) -> None:
            if net.layers[i].type not in ("Input", "Split", "Slice", "Flatten", "Reshape"):  # which compute nothing
                for blob in net.tops[i]:
                    blob.data = self._noisy(blob.read_data())

        def after_backward(i: int) -> None:
            for blob, wanted in zip(net.bottoms[i], net.bottom_need_backward[i]):
                if wanted and net.layer_need_backward[i]:
                    blob.diff = self._noisy(blob.read_diff())

        net.after_forward(after_forward)
        net.after_backward(after_backward)
