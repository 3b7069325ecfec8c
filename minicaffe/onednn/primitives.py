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
import functools
from collections.abc import Callable
from ctypes import byref, c_float, c_int64, c_void_p

import numpy as np

from minicaffe.onednn import library
from minicaffe.onednn.library import Alg, Arg, ExecArg, Prop, call, dims
from minicaffe.onednn.tensors import MemoryDesc, Tensor, intern_desc, of_array, plain, scratch

_EXEC_ARG_DESC = 255
_SCRATCHPAD_BY_USER = 1
_SAME_TYPE = 0
_ONE_FOR_ALL = 0  # mask: one slope for all channels


class Primitive:
    """A computation compiled for given layouts (dnnl_primitive_desc_t and dnnl_primitive_t).

    Freed with the last reference to it.  constants: memory of arguments that are the same in every execution.
    """

    def __init__(self, desc: c_void_p, name: str, constants: dict[int, Tensor] | None = None):
        self.name = name
        self.constants = constants or {}
        self.pd = desc
        self.handle = c_void_p()
        self._descs: dict[int, MemoryDesc | None] = {}
        lib = library.load()
        self._frees = [(lib.dnnl_primitive_desc_destroy, desc)]  # functions kept here: modules may be gone at exit
        call("primitive_create", byref(self.handle), desc)
        self._frees.insert(0, (lib.dnnl_primitive_destroy, self.handle))
        self.scratchpad = self.desc(Arg.SCRATCHPAD)

    def __del__(self):
        for free, handle in self._frees:
            free(handle)

    def desc(self, arg: int) -> MemoryDesc | None:
        """The layout of one argument; None if the primitive does not use it."""
        if arg not in self._descs:
            found = library.load().dnnl_primitive_desc_query_md(self.pd, _EXEC_ARG_DESC, int(arg))
            self._descs[arg] = intern_desc(c_void_p(found))
        return self._descs[arg]

    def bind(self, memories: dict[int, Tensor]) -> Execution:
        """Return the execution on this memory, by argument; calling it computes."""
        return Execution(self, memories)

    def run(self, memories: dict[int, Tensor]) -> None:
        """Compute once on this memory."""
        Execution(self, memories)()


class Execution:
    """A primitive with its arguments; calling it computes. It holds references to the tensors."""

    __slots__ = ("_execute", "_handle", "_count", "_args", "_pointer", "_scratch", "_primitive", "memories")

    def __init__(self, primitive: Primitive, memories: dict[int, Tensor]):
        self.memories = {arg: memory for arg, memory in memories.items() if memory is not None}
        memories = {**self.memories, **primitive.constants}
        self._scratch = None
        if primitive.scratchpad is not None:
            self._scratch = Tensor(primitive.scratchpad, scratch(primitive.scratchpad.size))
            memories = {**memories, Arg.SCRATCHPAD: self._scratch}
        self._args = (ExecArg * len(memories))(*(ExecArg(int(arg), memory.handle) for arg, memory in memories.items()))
        self._pointer = c_void_p(ctypes.addressof(self._args))
        self._count = len(memories)
        self._primitive = primitive
        self._handle = primitive.handle
        self._execute = library.load().dnnl_primitive_execute

    def __call__(self) -> None:
        local = library.local()
        if self._scratch is not None and self._scratch.buffer is not local.scratch:
            self._scratch.move(scratch(self._scratch.desc.size))
        status = self._execute(self._handle, local.stream, self._count, self._pointer)
        if status:
            library.check(status, self._primitive.name)


class Attr:
    """dnnl_primitive_attr_t for one creation call: post-operations, and a scratchpad that the caller provides.

    post: tuple of ("eltwise", alg, alpha, beta), ("sum", scale), ("binary", alg, MemoryDesc) and ("prelu",), whose
        single slope is an argument of the primitive.
    """

    def __init__(self, post: tuple = ()):
        self.handle, self._post = c_void_p(), c_void_p()
        call("primitive_attr_create", byref(self.handle))
        call("primitive_attr_set_scratchpad_mode", self.handle, _SCRATCHPAD_BY_USER)
        if not post:
            return
        call("post_ops_create", byref(self._post))
        for kind, *values in post:
            if kind == "eltwise":
                alg, alpha, beta = values
                call("post_ops_append_eltwise", self._post, int(alg), c_float(alpha), c_float(beta))
            elif kind == "sum":
                call("post_ops_append_sum", self._post, c_float(values[0]), 0, _SAME_TYPE)
            elif kind == "prelu":
                call("post_ops_append_prelu", self._post, _ONE_FOR_ALL)
            else:
                call("post_ops_append_binary", self._post, int(values[0]), values[1].handle)
        call("primitive_attr_set_post_ops", self.handle, self._post)

    def __enter__(self) -> c_void_p:
        return self.handle

    def __exit__(self, *error) -> None:
        if self._post:
            call("post_ops_destroy", self._post)
        call("primitive_attr_destroy", self.handle)


def _native(value):
    """Convert an argument of a C call from Python."""
    if isinstance(value, MemoryDesc):
        return value.handle
    if isinstance(value, Primitive):
        return value.pd
    if isinstance(value, float):
        return c_float(value)
    if isinstance(value, tuple):
        return dims(value)
    return int(value) if isinstance(value, int) else value


def _create(name: str, *args, post: tuple = (), constants: dict[int, Tensor] | None = None) -> Primitive:
    desc = c_void_p()
    with Attr(post) as attr:
        call(name + "_primitive_desc_create", byref(desc), library.engine(), *map(_native, args), attr)
    return Primitive(desc, name, constants)


_KEPT = 256  # primitives that are kept after their last use; one takes 20 to 100 KB


@functools.lru_cache(maxsize=_KEPT)
def _find(make: Callable[..., Primitive], args: tuple, options: tuple) -> Primitive:
    """The primitive that is in use for this description, or a new one."""
    key = make, args, options
    with library.RUNTIME.lock:
        primitive = library.RUNTIME.primitives.get(key)
        if primitive is None:
            primitive = library.RUNTIME.primitives[key] = make(*args, **dict(options))
    return primitive


def _cached(make: Callable[..., Primitive]) -> Callable[..., Primitive]:
    """Decorator: make the primitive only if there is none for this description."""

    @functools.wraps(make)
    def cached(*args, **options):
        return _find(make, args, tuple(sorted(options.items())))

    return cached


@_cached
def convolution(src, weights, bias, dst, strides, dilates, pad_low, pad_high, training=True, post=()) -> Primitive:
    """DST = SRC convolved with WEIGHTS, plus BIAS (or None); `dilates` counts skipped elements (dilation - 1)."""
    post, constants = (post, {}) if training else _relu_by_argument(post, len(dst.shape))
    return _create(
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
    )


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


@_cached
def convolution_backward_data(diff_src, weights, diff_dst, strides, dilates, pad_low, pad_high, hint) -> Primitive:
    """DIFF_SRC from DIFF_DST and WEIGHTS."""
    return _create(
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
    )


@_cached
def convolution_backward_weights(
    src, diff_weights, diff_bias, diff_dst, strides, dilates, pad_low, pad_high, hint
) -> Primitive:
    """DIFF_WEIGHTS and DIFF_BIAS (or None) from SRC and DIFF_DST."""
    return _create(
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


@_cached
def inner_product(src, weights, bias, dst, training=True, post=()) -> Primitive:
    """DST (N, O) = SRC (N, I, ...) times WEIGHTS (O, I, ...) transposed, plus BIAS (or None)."""
    return _create(
        "inner_product_forward", Prop.TRAINING if training else Prop.INFERENCE, src, weights, bias, dst, post=post
    )


@_cached
def inner_product_backward_data(diff_src, weights, diff_dst, hint) -> Primitive:
    """DIFF_SRC from DIFF_DST and WEIGHTS."""
    return _create("inner_product_backward_data", diff_src, weights, diff_dst, hint)


@_cached
def inner_product_backward_weights(src, diff_weights, diff_bias, diff_dst, hint) -> Primitive:
    """DIFF_WEIGHTS and DIFF_BIAS (or None) from SRC and DIFF_DST."""
    return _create("inner_product_backward_weights", src, diff_weights, diff_bias, diff_dst, hint)


@_cached
def matmul(src, weights, bias, dst, post=()) -> Primitive:
    """DST = SRC (..., M, K) times WEIGHTS (..., K, N), plus BIAS (or None)."""
    return _create("matmul", src, weights, bias, dst, post=post)


@_cached
def pooling(alg, src, dst, strides, kernel, pad_low, pad_high, training=True, post=()) -> Primitive:
    """Pooling of SRC into DST; a maximum in training also writes a WORKSPACE that its backward reads."""
    return _create(
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


@_cached
def pooling_backward(alg, diff_src, diff_dst, strides, kernel, pad_low, pad_high, hint) -> Primitive:
    """DIFF_SRC from DIFF_DST (and WORKSPACE)."""
    return _create(
        "pooling_backward", alg, diff_src, diff_dst, strides, kernel, (0,) * len(kernel), pad_low, pad_high, hint
    )


@_cached
def eltwise(alg, src, dst, alpha=0.0, beta=0.0, training=True) -> Primitive:
    """DST = f(SRC) elementwise; SRC and DST may be the same memory."""
    return _create(
        "eltwise_forward", Prop.TRAINING if training else Prop.INFERENCE, alg, src, dst, float(alpha), float(beta)
    )


@_cached
def eltwise_backward(alg, diff_src, diff_dst, data, alpha, beta, hint) -> Primitive:
    """DIFF_SRC from DIFF_DST and SRC (or DST for the algorithms named _FROM_DST)."""
    return _create("eltwise_backward", alg, diff_src, diff_dst, data, float(alpha), float(beta), hint)


@_cached
def prelu(src, weights, dst, training=True) -> Primitive:
    """DST = SRC where it is positive, else SRC times WEIGHTS, whose dimensions of 1 are broadcast."""
    return _create("prelu_forward", Prop.TRAINING if training else Prop.INFERENCE, src, weights, dst)


@_cached
def prelu_backward(src, weights, dst, hint) -> Primitive:
    """DIFF_SRC and DIFF_WEIGHTS, in the layouts of SRC and WEIGHTS, from SRC, WEIGHTS and DIFF_DST."""
    return _create("prelu_backward", src, weights, src, weights, dst, hint)


@_cached
def lrn(alg, src, dst, local_size, alpha, beta, k, training=True) -> Primitive:
    """Local response normalisation; in training it writes a WORKSPACE. alpha is divided by the number of summands."""
    return _create(
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


@_cached
def lrn_backward(alg, diff_src, diff_dst, src, local_size, alpha, beta, k, hint) -> Primitive:
    """DIFF_SRC from SRC, DIFF_DST and WORKSPACE."""
    return _create(
        "lrn_backward", alg, diff_src, diff_dst, src, c_int64(local_size), float(alpha), float(beta), float(k), hint
    )


@_cached
def batch_normalization(src, dst, epsilon, flags=0, training=True, post=()) -> Primitive:
    """DST = (SRC - MEAN) / sqrt(VARIANCE + epsilon); with GLOBAL_STATS the statistics are inputs, else outputs."""
    return _create(
        "batch_normalization_forward",
        Prop.TRAINING if training else Prop.INFERENCE,
        src,
        dst,
        float(epsilon),
        flags,
        post=post,
    )


@_cached
def batch_normalization_backward(diff_src, diff_dst, src, epsilon, flags, hint) -> Primitive:
    """DIFF_SRC (and DIFF_SCALE, DIFF_SHIFT if `flags` contains SCALE, SHIFT) from SRC, MEAN, VARIANCE and DIFF_DST."""
    prop = Prop.BACKWARD if flags & (library.Flags.SCALE | library.Flags.SHIFT) else Prop.BACKWARD_DATA
    return _create("batch_normalization_backward", prop, diff_src, diff_dst, src, float(epsilon), flags, hint)


@_cached
def softmax(src, dst, axis, training=True) -> Primitive:
    """DST = softmax of SRC over one axis."""
    return _create("softmax_forward", Prop.TRAINING if training else Prop.INFERENCE, Alg.SOFTMAX, src, dst, axis)


@_cached
def softmax_backward(diff_src, diff_dst, dst, axis, hint) -> Primitive:
    """DIFF_SRC from DST and DIFF_DST."""
    return _create("softmax_backward", Alg.SOFTMAX, diff_src, diff_dst, dst, axis, hint)


@_cached
def binary(alg, src0, src1, dst, post=()) -> Primitive:
    """DST = SRC op SRC_1, where SRC_1 may have dimensions of 1 that are broadcast; DST may be SRC."""
    return _create("binary", alg, src0, src1, dst, post=post)


@_cached
def reduction(alg, src, dst, post=()) -> Primitive:
    """DST = SRC reduced over the dimensions where DST has 1."""
    return _create("reduction", alg, src, dst, 0.0, 0.0, post=post)


@_cached
def reorder(src, dst, add=False) -> Primitive:
    """DST = SRC in another layout; with `add`, DST += SRC."""
    desc = c_void_p()
    with Attr((("sum", 1.0),) if add else ()) as attr:
        engine = library.engine()
        call("reorder_primitive_desc_create", byref(desc), src.handle, engine, dst.handle, engine, attr)
    return Primitive(desc, "reorder")


def _handles(descs) -> ctypes.Array:
    return (c_void_p * len(descs))(*(desc.handle for desc in descs))


@_cached
def concat(srcs: tuple, dst, axis) -> Primitive:
    """DST = MULTIPLE_SRC + 0, MULTIPLE_SRC + 1, ... concatenated along an axis; dst None: the primitive chooses."""
    desc = c_void_p()
    with Attr() as attr:
        call(
            "concat_primitive_desc_create",
            byref(desc),
            library.engine(),
            _native(dst),
            len(srcs),
            axis,
            _handles(srcs),
            attr,
        )
    return Primitive(desc, "concat")


@_cached
def weighted_sum(srcs: tuple, scales: tuple, dst) -> Primitive:
    """DST = sum of scales[i] times MULTIPLE_SRC + i; dst None: the primitive chooses."""
    desc = c_void_p()
    with Attr() as attr:
        call(
            "sum_primitive_desc_create",
            byref(desc),
            library.engine(),
            _native(dst),
            len(srcs),
            (c_float * len(srcs))(*scales),
            _handles(srcs),
            attr,
        )
    return Primitive(desc, "sum")
