"""Layer types of the forks in random nets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from minicaffe.core.registry import layer_class

if TYPE_CHECKING:
    from random_use.nets import Grammar

_SLOPES = "alpha_filler { type: 'uniform' min: 0.5 max: 2 } beta_filler { type: 'uniform' min: 0.5 max: 2 }"
_GAUSSIAN = "weight_filler { type: 'gaussian' std: 0.5 } bias_filler { type: 'gaussian' std: 0.3 }"
_WINDOW = "kernel_shape { dim: 3 dim: 3 } pad_shape { dim: 1 dim: 1 }"

_CLASSES = 4  # other than those of Grammar.loss, whose labels have another shape

#: types whose top has the shape of their bottom, with their parameters; {C}: the number of channels
_SAME = (
    ("Flip", "flip_param { flip_height: true }"),
    ("Flip", ""),
    ("Reverse", "reverse_param { axis: 1 }"),
    ("Reverse", "reverse_param { axis: 3 }"),
    ("Mish", ""),
    ("SeLu", ""),
    ("RReLU", ""),
    ("NegSquare", ""),
    ("M2PELU", f"m2pelu_param {{ {_SLOPES} }}"),
    ("MPELU", f"mpelu_param {{ {_SLOPES} gamma_filler {{ type: 'gaussian' std: 0.5 }} }}"),
    ("EltwiseAffine", "eltwise_affine_param { slope_filler { type: 'gaussian' std: 1 } }"),
    ("SpatialDropout", "dropout_param { dropout_ratio: 0.3 }"),
    ("SeLuDropout", "selu_dropout_param { dropout_ratio: 0.2 }"),
    ("GradientScaler", "gradient_scaler_param { upper_bound: 2 max_iter: 3 }"),
    ("Normalize", "normalize_param { normalize_type: 'L1' }"),
    ("Normalize", "normalize_param { normalize_type: 'L2' }"),
    ("NormL2", ""),
    ("NdPooling", f"pooling_param {{ {_WINDOW} stride_shape {{ dim: 1 dim: 1 }} }}"),
    ("NdPooling", f"pooling_param {{ pool: AVE {_WINDOW} stride_shape {{ dim: 1 dim: 1 }} }}"),
    ("NdConvolution", f"convolution_param {{ num_output: {{C}} {_WINDOW} {_GAUSSIAN} }}"),
)


def same_block(net: Grammar) -> None:
    """Add one or two layers whose tops have the shape of their bottom."""
    unread = net.maybe(0.5)
    head = net.convolution(net.pick()) if unread else net.pick()
    for _ in range(net.rng.choice((1, 1, 2))):
        kind, inside = net.rng.choice(_SAME)
        top = head.name if unread and layer_class(kind).in_place and net.maybe(0.5) else net.fresh("k")
        net.add(kind, [head.name], [top], inside.replace("{C}", str(head.channels)))
        head, unread = net.head_of(top, head.channels, head.places), True
    net.heads.append(head)


def size_block(net: Grammar) -> None:
    """Add a layer whose top has another number of channels, or another size."""
    head, top = net.pick(), net.fresh("k")
    kind = net.rng.choice(("ChannelNorm", "Transpose", "Padding", "Reorg", "DenseBlock"))
    channels, places, inside = head.channels, head.places, ""
    if kind == "ChannelNorm":
        channels = 1
    elif kind == "Transpose":
        places, inside = (*places, "turned"), "transpose_param { dim: 0 dim: 1 dim: 3 dim: 2 }"
    elif kind == "Padding":
        places, inside = (*places, "padded"), "padding_param { pad_beg: 1 pad_end: 2 }"
    elif kind == "Reorg":
        twice = net.fresh("d")
        fields = f"num_output: 4 kernel_size: 2 stride: 2 {_GAUSSIAN}"
        net.add("Deconvolution", [head.name], [twice], f"convolution_param {{ {fields} }}")
        head, channels, inside = net.head_of(twice, 4, places), 16, "reorg_param { stride: 2 }"
    else:
        channels += 4
        fillers = "Filter_Filler { type: 'gaussian' std: 0.4 } BN_Scaler_Filler { type: 'uniform' min: 0.5 max: 1.5 }"
        inside = f"denseblock_param {{ numTransition: 2 growthRate: 2 {fillers} }}"
    net.add(kind, [head.name], [top], inside)
    net.heads.append(net.head_of(top, channels, places))


def pair_block(net: Grammar) -> None:
    """Add a layer of two blobs of one size."""
    a, top = net.pick(), net.fresh("k")
    kind = net.rng.choice(("Correlation", "Warp", "FlowWarp", "MergeCrop", "ChannelScale"))
    channels = {"Warp": 2, "FlowWarp": 2, "ChannelScale": 1}.get(kind, a.channels)
    b = net.convolution(a, channels, same_size=True)
    inside, made = {
        "Correlation": ("correlation_param { pad: 1 kernel_size: 1 max_displacement: 1 }", 9),
        "MergeCrop": ("", a.channels + b.channels),
    }.get(kind, ("", a.channels))
    net.add(kind, [a.name, b.name], [top], inside)
    net.heads.append(net.head_of(top, made, a.places))


def end_block(net: Grammar) -> None:
    """Add a layer at the end of the net: a loss, an accuracy, or a recurrent layer."""
    head, kind = net.pick(), net.rng.choice(("L1Loss", "LpqLoss", "Lstm", "WarpCTCLoss", "SegAccuracy"))
    if kind in ("L1Loss", "LpqLoss"):
        other = net.convolution(head, head.channels, same_size=True)
        inside = "lpq_loss_param { p: 2 q: 0.5 q_epsilon: 0.1 }" if kind == "LpqLoss" else "loss_weight: 0.3"
        net.add(kind, [head.name, other.name], [net.fresh("l")], inside)
    elif kind == "Lstm":
        net.resizable = False
        net.add(kind, [head.name], [net.fresh("h")], f"lstm_param {{ num_output: 3 {_GAUSSIAN} }}")
    elif kind == "WarpCTCLoss":
        names = net.fresh("f"), net.fresh("t")
        label = net.input(net.batch, 2)
        net.classes[label] = _CLASSES
        net.add("Reshape", [net.convolution(head, _CLASSES).name], [names[0]],
                "reshape_param { shape { dim: 0 dim: 0 dim: -1 dim: 1 } }")  # fmt: skip
        net.add("Transpose", [names[0]], [names[1]], "transpose_param { dim: 2 dim: 0 dim: 1 dim: 3 }")
        net.add(kind, [names[1], label], [net.fresh("l")], "loss_weight: 0.01")
    else:
        picture = next(head for head in net.heads if not head.places)
        scores = net.convolution(picture, _CLASSES, same_size=True)
        label = net.input(net.batch, 1, *net.size)
        net.classes[label] = _CLASSES
        net.add(kind, [scores.name, label], [net.fresh("a")])


BLOCKS: dict[Callable[[Grammar], None], float] = {same_block: 2.5, size_block: 1, pair_block: 1, end_block: 0.8}
