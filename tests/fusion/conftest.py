"""Nets in pairs: numpy's layers one by one, and the groups of an engine."""

import numpy as np
import pytest

from helpers.nets import net_from_text
from minicaffe.proto import TEST, TRAIN
from minicaffe.testing import NUMPY


@pytest.fixture(params=[TRAIN, TEST], ids=["TRAIN", "TEST"])
def phase(request):
    return request.param


@pytest.fixture
def net_pair(engine, phase):
    """A function that makes `NetPair` from the text of a net."""
    return lambda text: NetPair(text, phase, engine)


class NetPair:
    """One net twice, with equal parameters and inputs: `plain` in numpy, layer by layer, and `fast` on an engine.

    Iteration chooses the engine of each net in turn.
    """

    def __init__(self, text, phase, engine):
        self.engine, self.phase = engine, phase
        self.nets = []
        for choice in (NUMPY, engine):
            with choice.chosen():
                self.nets.append(net_from_text(text, phase))
        self.plain, self.fast = self.nets
        for net in self:
            rng = np.random.default_rng(1)
            for blob in (blob for blobs in net.params.values() for blob in blobs):
                matrix = len(blob.shape) > 1
                blob.data = 0.3 * rng.standard_normal(blob.shape) if matrix else rng.random(blob.shape) + 0.5
        self.feed()

    def __iter__(self):
        for choice, net in zip((NUMPY, self.engine), self.nets, strict=True):
            with choice.chosen():
                yield net

    def feed(self, seed=2):
        """Set equal random inputs and diffs of outputs; clear the diffs of parameters."""
        for net in self:
            rng = np.random.default_rng(seed)
            for name in net.inputs:
                net.blobs[name].data = rng.standard_normal(net.blobs[name].shape)
            for name in net.outputs:
                net.blobs[name].diff = rng.standard_normal(net.blobs[name].shape)
            net.clear_param_diffs()

    def groups(self):
        """The groups that the engine finds."""
        with self.engine.chosen():
            return list(self.fast.fused.values())

    def found(self):
        """(first layer, last layer) of each group."""
        names = list(self.fast.layer_names)
        return [(names[group.start], names[group.end]) for group in self.groups()]

    def passes(self):
        """Run one forward and one backward pass."""
        self.feed()
        for net in self:
            net.run_forward()
            net.run_backward()

    def check(self, diffs=True, order=None):
        """Compare all blobs and parameters, read in some order of the blobs, and with `diffs` all diffs."""
        for name in order or self.plain.blobs:
            plain, fast = (net.blobs[name] for net in self.nets)
            close(plain.read_data(), fast.read_data(), name)
            if diffs:
                close(plain.read_diff(), fast.read_diff(), f"{name} diff")
        for name, blobs in self.plain.params.items():
            for j, (plain, fast) in enumerate(zip(blobs, self.fast.params[name], strict=True)):
                close(plain.read_data(), fast.read_data(), f"{name} {j}")
                if diffs:
                    close(plain.read_diff(), fast.read_diff(), f"{name} {j} diff")


def close(expected, got, what):
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-4 * max(np.abs(expected).max(), 0.1), err_msg=what)
