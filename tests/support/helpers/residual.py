"""A small residual net with what ResNet-50 has: strides, 1x1 kernels, two kinds of shortcuts and of pooling."""

from __future__ import annotations

from helpers.nets import layer_text


def convolution(name: str, bottom: str, outputs: int, kernel: int, more: str = "") -> str:
    """A Convolution."""
    filler = 'weight_filler { type: "msra" }'
    sizes = f"num_output: {outputs} kernel_size: {kernel} pad: {kernel // 2} {more} {filler}"
    return layer_text(name, "Convolution", bottom, name, f"convolution_param {{ {sizes} }}")


def normalization(blob: str, top: str = "", relu: bool = True) -> str:
    """BatchNorm and Scale, in place unless `top` names another blob, and a ReLU."""
    top = top or blob
    fillers = 'filler { type: "uniform" min: 0.5 max: 1.5 } bias_filler { type: "uniform" min: -0.3 max: 0.3 }'
    text = layer_text(f"{blob}_bn", "BatchNorm", blob, top)
    text += layer_text(f"{blob}_scale", "Scale", top, top, f"scale_param {{ bias_term: true {fillers} }}")
    return text + (layer_text(f"{blob}_relu", "ReLU", top, top) if relu else "")


def residual_net(batch: int = 4, loss: bool = True) -> str:
    """The prototxt: data (batch, 3, 16, 16); with a loss, or with the 10 numbers `ip` as output."""
    shapes = f"shape {{ dim: {batch} dim: 3 dim: 16 dim: 16 }} shape {{ dim: {batch} }}"
    text = layer_text("in", "Input", "", "data label", f"input_param {{ {shapes} }}")
    text += convolution("c1", "data", 16, 3) + normalization("c1")
    text += layer_text("p1", "Pooling", "c1", "p1", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    text += convolution("a1", "p1", 16, 3, "bias_term: false") + normalization("a1")
    text += convolution("a2", "a1", 70, 1) + normalization("a2", relu=False)
    text += convolution("s", "p1", 70, 1, "bias_term: false") + normalization("s", "sn", relu=False)
    text += layer_text("e", "Eltwise", "a2 sn", "e") + layer_text("e_relu", "ReLU", "e", "e")
    text += convolution("b1", "e", 70, 3, "stride: 2")
    text += layer_text("b1_relu", "ReLU", "b1", "b1", "relu_param { negative_slope: 0.1 }")
    text += convolution("b2", "b1", 70, 1) + layer_text("f", "Eltwise", "b1 b2", "f")
    text += layer_text("g", "Pooling", "f", "g", "pooling_param { pool: AVE global_pooling: true }")
    more = 'inner_product_param { num_output: 10 weight_filler { type: "gaussian" std: 0.2 } }'
    text += layer_text("ip", "InnerProduct", "g", "ip", more)
    return text + (layer_text("loss", "SoftmaxWithLoss", "ip label", "loss") if loss else "")
