"""Convolutions in TEST: which of oneDNN's kernels they use, and that values stay in one layout between them."""

import numpy as np
import pytest

import minicaffe
from helpers.engines import needs_onednn, on
from helpers.nets import net_from_text
from minicaffe import TEST
from minicaffe.onednn import layouts
from minicaffe.testing import NUMPY, ONEDNN

pytestmark = needs_onednn

CONV = """
layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"
        convolution_param {{ num_output: {out} kernel_size: {kernel} pad: {pad} group: {group}
                             weight_filler {{ type: "msra" }} }} }}
"""


def conv(name, bottom, out, kernel, group=1):
    return CONV.format(name=name, bottom=bottom, out=out, kernel=kernel, pad=kernel // 2, group=group)


def data(channels, size):
    return f"""
layer {{ name: "data" type: "Input" top: "data"
        input_param {{ shape {{ dim: 1 dim: {channels} dim: {size} dim: {size} }} }} }}
"""


@pytest.mark.parametrize(
    "channels, out, kernel, group, size, expected",
    [
        (64, 128, 1, 1, 7, False),
        (20, 50, 1, 1, 7, False),
        (50, 50, 3, 50, 7, False),  # depthwise
        (32, 32, 3, 1, 28, False),
        (24, 64, 5, 1, 28, True),  # a third of the multiplications would be with padding
        (20, 20, 3, 2, 28, True),
        (3, 32, 3, 1, 28, True),
        (256, 256, 3, 1, 14, False),
        (256, 256, 3, 1, 7, True),  # many weights for few positions
        (64, 64, 3, 1, 7, False),
    ],
)
@on(ONEDNN)
def test_kernels_are_chosen_by_shape(engine, channels, out, kernel, group, size, expected):
    net = net_from_text(data(channels, size) + conv("conv", "data", out, kernel, group), TEST)
    assert net.layers[1].gains_from_inference(net.blobs["conv"].shape) is expected


NET = (
    data(3, 20)
    + conv("first", "data", 32, 3)
    + conv("depthwise", "first", 32, 3, 32)
    + conv("wide", "depthwise", 64, 1)
    + conv("narrow", "wide", 32, 1)
    + """
layer { name: "sum" type: "Eltwise" bottom: "narrow" bottom: "depthwise" top: "sum" }
"""
)


def test_values_are_not_converted_between_layers(monkeypatch):
    nets = []
    for engine in (NUMPY, ONEDNN):
        minicaffe.set_random_seed(1)
        with engine.chosen():
            nets.append(net_from_text(NET, TEST))
        nets[-1].blobs["data"].data[...] = np.random.default_rng(2).standard_normal((1, 3, 20, 20))
        nets[-1].run_forward()
    converted = []
    monkeypatch.setattr(layouts, "reorder", lambda *args: converted.append(args))
    nets[1].run_forward()
    assert not converted
    monkeypatch.undo()
    plain, fast = (net.blobs["sum"].read_data() for net in nets)
    np.testing.assert_allclose(fast, plain, 1e-4, 1e-5)
