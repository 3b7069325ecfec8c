"""Regression tests: reduced programs on which engines once disagreed."""

import pytest

from helpers.engines import on
from helpers.nets import layer_text
from minicaffe.testing import NUMPY
from random_use.blobs import Drop, Hold, Write, WriteView
from random_use.compare import play
from random_use.passes import Backward, Forward, PartialBackward, PartialForward, RunForward
from random_use.player import played
from random_use.program import Program
from random_use.whole_nets import Load, ReadAll, Reshape

TRAIN, TEST = 0, 1
ALL = ReadAll(0, 1)


def conv(name, bottom, top, inside="num_output: 16 kernel_size: 3 pad: 1", params=""):
    inside += ' weight_filler { type: "xavier" }'
    return layer_text(name, "Convolution", bottom, top, f"{params} convolution_param {{ {inside} }}")


def picture(channels=3, batch=2):
    shape = f"shape {{ dim: {batch} dim: {channels} dim: 6 dim: 7 }}"
    return layer_text("in", "Input", "", "x", f"input_param {{ {shape} }}")


def norm(name, bottom, top, inside=""):
    return layer_text(name, "BatchNorm", bottom, top, f"batch_norm_param {{ {inside} }}")


def scale(name, bottom, top):
    return layer_text(name, "Scale", bottom, top, 'scale_param { filler { type: "uniform" min: 0.5 max: 1.5 } }')


FORCE = "force_backward: true\n"
#: a convolution with BatchNorm, which is folded into it if the statistics are fixed
FOLDED = FORCE + picture() + conv("conv", "x", "c") + norm("bn", "c", "c")
SCALED = FOLDED + scale("scale", "c", "c")
#: the sum of two convolutions, the second with BatchNorm and Scale folded into it
SUM = picture() + conv("c1", "x", "a") + conv("c2", "x", "b") + norm("bn", "b", "b") + scale("scale", "b", "b")
SUM += layer_text("sum", "Eltwise", "a b", "s")
DEEP = picture() + conv("conv", "x", "c") + SUM.removeprefix(picture()).replace('"x"', '"c"')
#: BatchNorm out of place, then Scale in place
NORM = FORCE + picture() + conv("conv", "x", "c") + norm("bn", "c", "n") + scale("scale", "n", "n")
POOL = FORCE + picture() + conv("conv", "x", "c")
POOL += layer_text("pool", "Pooling", "c", "p", "pooling_param { kernel_size: 2 stride: 2 }")
LOSS = picture() + layer_text("labels", "Input", "", "label", "input_param { shape { dim: 2 } }")
PRODUCT = 'inner_product_param { num_output: 3 weight_filler { type: "xavier" } }'
LOSS += layer_text("ip", "InnerProduct", "x", "y", PRODUCT)
LOSS += layer_text("loss", "SoftmaxWithLoss", "y label", "l")
#: BatchNorm with Scale in place, whose bottom gets no gradient
FIXED = picture() + layer_text("pool", "Pooling", "x", "p", "pooling_param { pool: AVE kernel_size: 2 }")
FIXED += norm("bn", "p", "p") + scale("scale", "p", "p") + LOSS.removeprefix(picture()).replace('"x"', '"p"')
ELU = FORCE + picture() + layer_text("elu", "ELU", "x", "y")

FORWARD, BACKWARD = Forward(0, inputs=1), Backward(0, diffs=5)

PROGRAMS = {
    "the input of a convolution whose top the sum left out is written": Program(
        SUM, [FORWARD, Write(0, "x", "data", 2), ALL], TEST),
    "another reader's copy of that input is written": Program(
        SUM, [FORWARD, Write(0, "x_in_0_split_0", "data", 2), ALL], TEST),
    "the weights behind that top are written": Program(
        SUM, [FORWARD, Write(0, ("c2", 0), "data", 2), ALL], TEST),
    "a partial pass reads that top after the input was written": Program(
        SUM, [FORWARD, PartialForward(0, "sum", None, inputs=2), ALL], TEST),
    "a partial pass makes the input of that top anew": Program(
        DEEP, [FORWARD, PartialForward(0, None, "conv", inputs=2), ALL], TEST),
    "a layer works in place behind a folded convolution": Program(
        FOLDED + layer_text("sigmoid", "Sigmoid", "c", "c"), [FORWARD, BACKWARD, ALL], TEST),
    "the top of a folded convolution is written before backward": Program(
        FOLDED, [FORWARD, Write(0, "c", "data", 2, poke=True), BACKWARD, ALL], TEST),
    "the weights of a folded convolution are loaded before backward": Program(
        SCALED, [FORWARD, Load(0, 3), BACKWARD, ALL], TEST),
    "a training net moves the statistics before backward": Program(
        SCALED, [FORWARD, Forward(1, inputs=2), BACKWARD, ALL], TEST, twin=TRAIN),
    "a folded convolution is reshaped": Program(
        FOLDED, [FORWARD, Reshape(0, 3, None, False), FORWARD, BACKWARD, ALL], TEST),
    "a pass ends within a folded convolution": Program(
        SCALED, [FORWARD, PartialForward(0, None, "bn", inputs=2), BACKWARD, ALL], TEST),
    "the diff that Scale leaves in place": Program(NORM, [FORWARD, BACKWARD, ALL]),
    "the diff that Scale leaves in place, from which BatchNorm starts again": Program(
        NORM, [FORWARD, BACKWARD, PartialBackward(0, "bn", None), ALL]),
    "the diff that Scale leaves in place where nothing below learns": Program(
        FIXED, [FORWARD, BACKWARD, ALL], classes={"label": 3}),
    "the top of BatchNorm and ReLU is written before backward": Program(
        FOLDED + layer_text("relu", "ReLU", "c", "c"), [FORWARD, Write(0, "c", "data", 2), BACKWARD, ALL]),
    "weights are written through a view that goes before the pass": Program(
        POOL, [Hold(0, ("conv", 0), "data", 1), FORWARD, WriteView(0, 1, 3), Drop(0, 1), RunForward(0), ALL], TEST),
    "a blob is written through a view that goes before the pass": Program(
        SUM, [Hold(0, "a", "data", 1), FORWARD, WriteView(0, 1, 3), Drop(0, 1), PartialForward(0, "sum"), ALL], TEST),
    "the bottom of a maximum is written before backward": Program(
        POOL, [FORWARD, Write(0, "c", "data", 2), BACKWARD, ALL]),
    "labels are written before backward": Program(
        LOSS, [FORWARD, Write(0, "label", "data", 4), BACKWARD, ALL], classes={"label": 3}),
    "the bottom of an ELU is written before backward": Program(
        ELU, [FORWARD, Write(0, "x", "data", 2), BACKWARD, ALL]),
    "the top of an ELU is written before backward": Program(
        ELU, [FORWARD, Write(0, "y", "data", 2), BACKWARD, ALL]),
    "the top of a Swish is written before backward": Program(
        ELU.replace("ELU", "Swish"), [FORWARD, Write(0, "y", "data", 2), BACKWARD, ALL]),
}  # fmt: skip


@on(*played())
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
def test_once_found(program, engine):
    assert play(program, (NUMPY, engine)) == "agreed"
