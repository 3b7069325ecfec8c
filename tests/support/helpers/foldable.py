"""Nets of layers that can be folded: small ones of given layers, and random chains and residual branches."""

from __future__ import annotations

from random import Random

import numpy as np

from helpers.nets import layer_text, net_from_text
from helpers.trained import randomize
from minicaffe import TEST, Net

CONV = layer_text("conv", "Convolution", "data", "conv", "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }")
PLAIN = CONV.replace("pad: 1", "pad: 1 bias_term: false")
BN = layer_text("bn", "BatchNorm", "conv", "conv")
SCALE = layer_text("scale", "Scale", "conv", "conv", "scale_param { bias_term: true }")
RELU = layer_text("relu", "ReLU", "conv", "conv")


def data(*shape: int) -> str:
    """The Input layer "data", by default of the shape (2, 4, 6, 5)."""
    dims = " ".join(f"dim: {n}" for n in shape or (2, 4, 6, 5))
    return layer_text("data", "Input", "", "data", f"input_param {{ shape {{ {dims} }} }}")


def net_of(*layers: str, shape=()) -> Net:
    """A net in TEST of the Input "data" and further layers, with random parameters as if trained."""
    net = net_from_text(data(*shape) + "".join(layers), TEST)
    randomize(net, 1)
    for layer in net.layers:
        if layer.type == "BN" and len(layer.blobs) > 2:
            layer.blobs[3].data[...] = np.random.default_rng(0).uniform(0.5, 1.5, layer.blobs[3].shape)
    return net


def outputs(net: Net, seed: int = 5) -> dict[str, np.ndarray]:
    """Copies of the outputs for random inputs, by name."""
    rng = np.random.default_rng(seed)
    inputs = {name: rng.standard_normal(net.blobs[name].shape) for name in net.inputs}
    return {name: values.copy() for name, values in net.forward(**inputs).items()}


def random_net(seed: int) -> Net:
    """A net in TEST with an input "data", whose parameters have random values as if trained."""
    net = net_from_text(_Maker(Random(seed)).make(), TEST)
    randomize(net, seed)
    rng = np.random.default_rng(seed)
    for layer in net.layers:
        if layer.type == "BN":
            for blob in layer.blobs[::3]:  # scale; variance
                blob.data[...] = rng.uniform(0.5, 1.5, blob.shape)
    return net


class _Maker:
    """Writes the layers of a net; `top` is the last blob, of so many `channels`, and `size` along each other axis."""

    def __init__(self, rng: Random) -> None:
        self.rng, self.text, self.count, self.top = rng, "", 0, "data"
        self.channels, self.axes, self.size = rng.choice((1, 4, 6)), rng.choice((1, 2, 2, 2, 2, 3)), rng.randint(4, 7)

    def maybe(self, chance: float = 0.5) -> bool:
        return self.rng.random() < chance

    def add(self, kind: str, fields: str = "", bottoms: str = "", in_place: bool = False) -> None:
        """Add a layer behind `top`, or behind other bottoms."""
        self.count += 1
        name = f"{kind.lower()}{self.count}"
        bottoms = bottoms or self.top
        self.top = bottoms if in_place else name
        self.text += layer_text(name, kind, bottoms, self.top, fields)

    def make(self) -> str:
        """Return the prototxt."""
        sizes = [2, self.channels, *[self.size] * self.axes]
        shape = " ".join(f"dim: {n}" for n in sizes)
        self.text = layer_text("data", "Input", "", "data", f"input_param {{ shape {{ {shape} }} }}")
        for _ in range(self.rng.randint(1, 3)):
            self.rng.choice((self.block, self.block, self.depthwise, self.residual))()
        for _ in range(self.rng.randint(0, 2)):
            self.inner_product()
        return self.text

    # -- products ------------------------------------------------------------------------------------------------------

    def block(self) -> None:
        """A Convolution or Deconvolution with layers before and behind it."""
        self.affines()
        rng, kind = self.rng, self.rng.choice(("Convolution", "Deconvolution"))
        group = rng.choice([g for g in (1, 2, self.channels) if self.channels % g == 0])
        kernel, dilation = rng.randint(1, 3), rng.choice((1, 1, 2))
        extent = dilation * (kernel - 1) + 1
        if kind == "Convolution":
            pad = 0 if self.size - extent >= 2 and self.maybe() else extent // 2
            self.size += 2 * pad - extent + 1
        else:
            pad = rng.choice((0, 1)) if extent > 2 else 0
            self.size += extent - 1 - 2 * pad
        self.channels = group * rng.randint(1, 3)
        self.convolution(kind, f"kernel_size: {kernel} pad: {pad} dilation: {dilation} group: {group}")
        self.affines()

    def convolution(self, kind: str, fields: str) -> None:
        bias = "" if self.maybe() else "bias_term: false"
        self.add(kind, f"convolution_param {{ num_output: {self.channels} {fields} {bias} }} {self.params()}")

    def params(self) -> str:
        return "param { lr_mult: 1 }" if self.maybe(0.3) else ""

    def depthwise(self) -> None:
        kind = self.rng.choice(("ConvolutionDepthwise", "DepthwiseConvolution"))
        self.convolution(kind, "kernel_size: 3 pad: 1")
        self.affines()

    def residual(self) -> None:
        """The sum of a blob and what layers compute of it."""
        self.convolution("Convolution", "kernel_size: 1")
        start = self.top
        self.convolution("Convolution", "kernel_size: 3 pad: 1")
        self.affines()
        self.add("Eltwise", bottoms=f"{self.top} {start}")
        self.affines()

    def inner_product(self) -> None:
        self.affines()
        self.channels = self.rng.randint(2, 5)
        bias, transpose = ("true" if self.maybe() else "false" for _ in range(2))
        fields = f"num_output: {self.channels} bias_term: {bias} transpose: {transpose}"
        self.add("InnerProduct", f"inner_product_param {{ {fields} }} {self.params()}")
        self.affines()

    # -- layers between them -------------------------------------------------------------------------------------------

    def affines(self) -> None:
        """Up to three layers, most of which can be folded."""
        for _ in range(self.rng.randint(0, 3)):
            kind = self.rng.choice(
                ("BatchNorm", "BatchNorm", "Scale", "Scale", "Bias", "Power", "BN", "ReLU", "Dropout")
            )
            self.add(kind, self.fields(kind), in_place=self.top != "data" and self.maybe())

    def fields(self, kind: str) -> str:
        rng = self.rng
        axes = "axis: 0 num_axes: 0" if self.maybe(0.3) else ""
        return {
            "BatchNorm": f"batch_norm_param {{ eps: {rng.choice(('1e-5', '1e-3'))} }}",
            "Scale": f"scale_param {{ {axes} {'bias_term: true' if self.maybe() else ''} }} {self.params()}",
            "Bias": f"bias_param {{ {axes} }}",
            "Power": f"power_param {{ scale: {rng.uniform(0.5, 2):.3f} shift: {rng.choice((0, 0.3))} }}",
            "BN": f"bn_param {{ {rng.choice(('eps: 1e-4', 'bn_mode: INFERENCE'))} }}",
        }.get(kind, "")
