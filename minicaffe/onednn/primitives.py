"""oneDNN's primitives as cached Python objects.

Each function below returns the `Primitive` of one computation, described by layouts and numbers: the same object for
the same description, as long as it is in use.  `primitive.desc(Arg.SRC)` is the layout of an argument, which the
primitive chooses where `any_layout(shape)` was given.  `bind` returns an `Execution` on given memory, to be called in
every pass; a call takes one or two microseconds in addition to the computation.

    conv = convolution(any_layout(x), any_layout(w), None, any_layout(y), (1, 1), (0, 0), (2, 2), (2, 2))
    step = conv.bind({Arg.SRC: memory_x, Arg.WEIGHTS: memory_w, Arg.DST: memory_y})
    step()

Shapes follow oneDNN: (N, C, spatial...) for data, (O, I, spatial...) or (G, O/G, I/G, spatial...) for weights.

Parameters that several functions have:

    src, weights, dst, diff_src, ...        layouts (`MemoryDesc`) of the arguments of these names; bias: or None
    strides, kernel, pad_low, pad_high      tuples with a number for each spatial axis
    training                                whether a backward pass follows; True by default
    post                                    post-operations (`Attr`); none by default
    hint                                    the forward primitive of a backward one

Every function raises `Unsupported` if the library has no code for the computation.
"""

from __future__ import annotations

import ctypes
import math
from ctypes import byref, c_float, c_int64, c_void_p

import numpy as np

from minicaffe.onednn import library
from minicaffe.onednn.execution import Attr, Primitive, cached_primitive, create, native
from minicaffe.onednn.library import Alg, Arg, Prop, call
from minicaffe.onednn.tensors import MemoryDesc, Tensor, channels_last, of_array, plain


@cached_primitive
def convolution(src, weights, bias, dst, strides, dilates, pad_low, pad_high, training=True, post=()) -> Primitive:
    """DST = SRC convolved with WEIGHTS, plus BIAS (or None); `dilates` counts skipped elements (dilation - 1)."""
    post, constants = (post, {}) if training else _relu_by_argument(post, len(dst.shape))
    return create(
        "convolution_forward",
        Prop.TRAINING if training else Prop.INFERENCE,
        Alg.CONVOLUTION_DIRECT,
        src,
        weights,
        bias,
        dst,
        strides,
        dilates,
        pad_low,
        pad_high,
        post=post,
        constants=constants,
        prefer=_faster(src, weights),
    )


def _faster(src: MemoryDesc, weights: MemoryDesc) -> str:
    """The implementation of a convolution to prefer to the one that oneDNN offers first; "" for none.

    In channels last, oneDNN 3.2 offers "brgconv:avx512_core" first. For more than 16 channels and kernels larger than
    1x1 the next one takes 6% less time (median of 54 shapes), forward and backward to the data.
    """
    return "jit:avx512_core" if src is channels_last(src.shape) and math.prod(weights.shape[2:]) > 1 else ""


def _relu_by_argument(post: tuple, num_axes: int) -> tuple[tuple, dict[int, Tensor]]:
    """`post` with each ReLU written as a maximum with 0 or as a PReLU, and the arguments that hold the 0 or the slope.

    oneDNN 3.2's convolutions for inference never free the code of an eltwise post-operation, 50 KB each.
    """
    result, constants = [], {}
    for i, (kind, *values) in enumerate(post):
        if kind != "eltwise" or values[0] != Alg.RELU:
            result.append((kind, *values))
        elif values[1]:  # not for a slope of 0, which would make nan of -inf
            result.append(("prelu",))
            constants[Arg.POST_OP * (i + 1) | Arg.WEIGHTS] = of_array(np.full(1, values[1], np.float32))
        else:
            zero = Tensor(plain((1,) * num_axes))
            result.append(("binary", Alg.MAX, zero.desc))
            constants[Arg.POST_OP * (i + 1) | Arg.SRC_1] = zero
    return tuple(result), constants


@cached_primitive
def convolution_backward_data(diff_src, weights, diff_dst, strides, dilates, pad_low, pad_high, hint) -> Primitive:
    """DIFF_SRC from DIFF_DST and WEIGHTS."""
    return create(
        "convolution_backward_data",
        Alg.CONVOLUTION_DIRECT,
        diff_src,
        weights,
        diff_dst,
        strides,
        dilates,
        pad_low,
        pad_high,
        hint,
        prefer=_faster(diff_src, weights),
    )


@cached_primitive
def convolution_backward_weights(
    src, diff_weights, diff_bias, diff_dst, strides, dilates, pad_low, pad_high, hint
) -> Primitive:
    """DIFF_WEIGHTS and DIFF_BIAS (or None) from SRC and DIFF_DST."""
    return create(
        "convolution_backward_weights",
        Alg.CONVOLUTION_DIRECT,
        src,
        diff_weights,
        diff_bias,
        diff_dst,
        strides,
        dilates,
        pad_low,
        pad_high,
        hint,
    )


@cached_primitive
def inner_product(src, weights, bias, dst, training=True, post=()) -> Primitive:
    """DST (N, O) = SRC (N, I, ...) times WEIGHTS (O, I, ...) transposed, plus BIAS (or None)."""
    return create(
        "inner_product_forward", Prop.TRAINING if training else Prop.INFERENCE, src, weights, bias, dst, post=post
    )


@cached_primitive
def inner_product_backward_data(diff_src, weights, diff_dst, hint) -> Primitive:
    """DIFF_SRC from DIFF_DST and WEIGHTS."""
    return create("inner_product_backward_data", diff_src, weights, diff_dst, hint)


@cached_primitive
def inner_product_backward_weights(src, diff_weights, diff_bias, diff_dst, hint) -> Primitive:
    """DIFF_WEIGHTS and DIFF_BIAS (or None) from SRC and DIFF_DST."""
    return create("inner_product_backward_weights", src, diff_weights, diff_bias, diff_dst, hint)


@cached_primitive
def matmul(src, weights, bias, dst, post=()) -> Primitive:
    """DST = SRC (..., M, K) times WEIGHTS (..., K, N), plus BIAS (or None)."""
    return create("matmul", src, weights, bias, dst, post=post)


@cached_primitive
def pooling(alg, src, dst, strides, kernel, pad_low, pad_high, training=True, post=()) -> Primitive:
    """Pooling of SRC into DST; a maximum in training also writes a WORKSPACE that its backward reads."""
    return create(
        "pooling_forward",
        Prop.TRAINING if training else Prop.INFERENCE,
        alg,
        src,
        dst,
        strides,
        kernel,
        (0,) * len(kernel),
        pad_low,
        pad_high,
        post=post,
    )


@cached_primitive
def pooling_backward(alg, diff_src, diff_dst, strides, kernel, pad_low, pad_high, hint) -> Primitive:
    """DIFF_SRC from DIFF_DST (and WORKSPACE)."""
    return create(
        "pooling_backward", alg, diff_src, diff_dst, strides, kernel, (0,) * len(kernel), pad_low, pad_high, hint
    )


@cached_primitive
def eltwise(alg, src, dst, alpha=0.0, beta=0.0, training=True) -> Primitive:
    """DST = f(SRC) elementwise; SRC and DST may be the same memory."""
    return create(
        "eltwise_forward", Prop.TRAINING if training else Prop.INFERENCE, alg, src, dst, float(alpha), float(beta)
    )


@cached_primitive
def eltwise_backward(alg, diff_src, diff_dst, data, alpha, beta, hint) -> Primitive:
    """DIFF_SRC from DIFF_DST and SRC (or DST for the algorithms named _FROM_DST)."""
    return create("eltwise_backward", alg, diff_src, diff_dst, data, float(alpha), float(beta), hint)


@cached_primitive
def prelu(src, weights, dst, training=True) -> Primitive:
    """DST = SRC where it is positive, else SRC times WEIGHTS, whose dimensions of 1 are broadcast."""
    return create("prelu_forward", Prop.TRAINING if training else Prop.INFERENCE, src, weights, dst)


@cached_primitive
def prelu_backward(src, weights, dst, hint) -> Primitive:
    """DIFF_SRC and DIFF_WEIGHTS, in the layouts of SRC and WEIGHTS, from SRC, WEIGHTS and DIFF_DST."""
    return create("prelu_backward", src, weights, src, weights, dst, hint)


@cached_primitive
def lrn(alg, src, dst, local_size, alpha, beta, k, training=True) -> Primitive:
    """Local response normalisation; in training it writes a WORKSPACE. alpha is divided by the number of summands."""
    return create(
        "lrn_forward",
        Prop.TRAINING if training else Prop.INFERENCE,
        alg,
        src,
        dst,
        c_int64(local_size),
        float(alpha),
        float(beta),
        float(k),
    )


@cached_primitive
def lrn_backward(alg, diff_src, diff_dst, src, local_size, alpha, beta, k, hint) -> Primitive:
    """DIFF_SRC from SRC, DIFF_DST and WORKSPACE."""
    return create(
        "lrn_backward", alg, diff_src, diff_dst, src, c_int64(local_size), float(alpha), float(beta), float(k), hint
    )


@cached_primitive
def batch_normalization(src, dst, epsilon, flags=0, training=True, post=()) -> Primitive:
    """DST = (SRC - MEAN) / sqrt(VARIANCE + epsilon); with GLOBAL_STATS the statistics are inputs, else outputs."""
    return create(
        "batch_normalization_forward",
        Prop.TRAINING if training else Prop.INFERENCE,
        src,
        dst,
        float(epsilon),
        flags,
        post=post,
    )


@cached_primitive
def batch_normalization_backward(diff_src, diff_dst, src, epsilon, flags, hint) -> Primitive:
    """DIFF_SRC (and DIFF_SCALE, DIFF_SHIFT if `flags` contains SCALE, SHIFT) from SRC, MEAN, VARIANCE and DIFF_DST."""
    prop = Prop.BACKWARD if flags & (library.Flags.SCALE | library.Flags.SHIFT) else Prop.BACKWARD_DATA
    return create("batch_normalization_backward", prop, diff_src, diff_dst, src, float(epsilon), flags, hint)


@cached_primitive
def softmax(src, dst, axis, training=True) -> Primitive:
    """DST = softmax of SRC over one axis."""
    return create("softmax_forward", Prop.TRAINING if training else Prop.INFERENCE, Alg.SOFTMAX, src, dst, axis)


@cached_primitive
def softmax_backward(diff_src, diff_dst, dst, axis, hint) -> Primitive:
    """DIFF_SRC from DST and DIFF_DST."""
    return create("softmax_backward", Alg.SOFTMAX, diff_src, diff_dst, dst, axis, hint)


@cached_primitive
def binary(alg, src0, src1, dst, post=()) -> Primitive:
    """DST = SRC op SRC_1, where SRC_1 may have dimensions of 1 that are broadcast; DST may be SRC."""
    return create("binary", alg, src0, src1, dst, post=post)


@cached_primitive
def reduction(alg, src, dst, post=()) -> Primitive:
    """DST = SRC reduced over the dimensions where DST has 1."""
    return create("reduction", alg, src, dst, 0.0, 0.0, post=post)


@cached_primitive
def reorder(src, dst, add=False) -> Primitive:
    """DST = SRC in another layout; with `add`, DST += SRC."""
    desc = c_void_p()
    with Attr((("sum", 1.0),) if add else ()) as attr:
        engine = library.engine()
        call("reorder_primitive_desc_create", byref(desc), src.handle, engine, dst.handle, engine, attr)
    return Primitive(desc, "reorder")


def _handles(descs) -> ctypes.Array:
    return (c_void_p * len(descs))(*(desc.handle for desc in descs))


@cached_primitive
def concat(srcs: tuple, dst, axis) -> Primitive:
    """DST = MULTIPLE_SRC + 0, MULTIPLE_SRC + 1, ... concatenated along an axis; dst None: the primitive chooses."""
    desc = c_void_p()
    with Attr() as attr:
        call(
            "concat_primitive_desc_create",
            byref(desc),
            library.engine(),
            native(dst),
            len(srcs),
            axis,
            _handles(srcs),
            attr,
        )
    return Primitive(desc, "concat")


@cached_primitive
def weighted_sum(srcs: tuple, scales: tuple, dst) -> Primitive:
    """DST = sum of scales[i] times MULTIPLE_SRC + i; dst None: the primitive chooses."""
    desc = c_void_p()
    with Attr() as attr:
        call(
            "sum_primitive_desc_create",
            byref(desc),
            library.engine(),
            native(dst),
            len(srcs),
            (c_float * len(srcs))(*scales),
            _handles(srcs),
            attr,
        )
    return Primitive(desc, "sum")
