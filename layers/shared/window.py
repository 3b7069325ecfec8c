"""Windows over the spatial axes: their sizes as prototxts give them, and the shapes that follow.

Convolution, Deconvolution, Im2col and Pooling read `kernel_size`, `stride`, `pad` and `dilation`, and the other forms
of them in files, only through `conv_window` and `pool_window`:

    kernel_size: 3                                 for all axes, or once for each
    kernel_h: 3 kernel_w: 5                        two axes
    kernel_shape { dim: 3 dim: 3 dim: 3 }          video-caffe: once for each axis
    kernel_depth: 3 kernel_size: 5                 C3D: time, then rows and columns
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from minicaffe.errors import LayerError
from minicaffe.proto.further import all_values


class Window(NamedTuple):
    """A window: one number for each spatial axis in each field."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """The number of places that a window spans: dilation * (kernel - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation))

    @property
    def is_pointwise(self) -> bool:
        """Whether each window is one place of the input."""
        return set(self.kernel) <= {1} and not any(self.pad)

    @property
    def is_planar(self) -> bool:
        """Whether it is over two spatial axes and not dilated."""
        return len(self.kernel) == 2 and set(self.dilation) == {1}

    def with_axes(self, count: int) -> Window:
        """The same window over `count` spatial axes; the added ones come first and have one place."""
        added = count - len(self.kernel)
        return Window(*((fill,) * added + field for fill, field in zip((1, 1, 0, 1), self)))

    def output(self, size: Sequence[int]) -> tuple[int, ...]:
        """The number of windows in `size` plus the padding: floor((size + 2 pad - extent) / stride) + 1."""
        fits = tuple(
            (n + 2 * p - e) // s + 1 for n, p, e, s in zip(size, self.pad, self.extent, self.stride, strict=True)
        )
        if min(fits, default=1) < 1:
            raise LayerError(
                f"a window of {self.extent} places (kernel {self.kernel}, dilation {self.dilation}) does not fit into "
                f"a bottom of spatial size {tuple(size)} with pad {self.pad}"
            )
        return fits

    def pooled(self, size: Sequence[int], floor: bool = False, clip: bool = True) -> tuple[int, ...]:
        """The number of pooling windows; the last ones may extend beyond the border, unless `floor`.

        With padding, a window that would begin in the far padding is omitted, unless `clip` is False.
        """
        counts = []
        for n, e, s, p in zip(size, self.extent, self.stride, self.pad, strict=True):
            room = (n + 2 * p - e) / s
            count = (math.floor(room) if floor else math.ceil(room)) + 1
            counts.append(count - (clip and any(self.pad) and (count - 1) * s >= n + p))
        if min(counts) < 1:
            raise LayerError(f"kernel {self.kernel} does not fit into a bottom of spatial size {tuple(size)}")
        return tuple(counts)

    def input(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the smallest input that has `size` windows: stride * (size - 1) + extent - 2 pad."""
        needs = tuple(s * (n - 1) + e - 2 * p for n, p, e, s in zip(size, self.pad, self.extent, self.stride))
        if min(needs, default=1) < 1:
            raise LayerError(f"pad {self.pad} leaves nothing of the output: its spatial size would be {needs}")
        return needs


def conv_window(param, num_axes: int) -> Window:
    """Return the window of a ConvolutionParameter over `num_axes` spatial axes.

    Each of kernel_size, stride, pad, dilation is given once for all axes or once for each; the first three may be given
    in the other forms above instead.  `LayerError` names the field that is wrong.
    """
    return _window(param, num_axes, None)


def pool_window(param, size: Sequence[int]) -> Window:
    """Return the window of a PoolingParameter over pictures, or volumes, of this size; errors as for `conv_window`."""
    if not param.global_pooling:
        return _window(param, len(size), None)
    given = [name for name in ("kernel_size", "kernel_h", "kernel_w", *_OTHER_FORMS["kernel"]) if param.HasField(name)]
    if given:
        raise LayerError(f"global_pooling pools over the whole picture: {given[0]} cannot be given with it")
    window = _window(param, len(size), tuple(size))
    if {*window.stride, *window.dilation} != {1} or any(window.pad):
        raise LayerError(f"global_pooling needs stride 1 and pad 0, got stride {window.stride} and pad {window.pad}")
    return window


#: kernel, stride and pad: the field with one value for each axis, and the one with the value of the first of three axes
_OTHER_FORMS = {
    "kernel": ("kernel_shape", "kernel_depth"),
    "stride": ("stride_shape", "temporal_stride"),
    "pad": ("pad_shape", "temporal_pad"),
}


def _window(param, num_axes: int, kernel: tuple[int, ...] | None) -> Window:
    """Read a window; kernel: its kernel, if the message has none."""
    in_time = _given(param, "kernel_depth")
    if in_time and num_axes != 3:
        raise LayerError(f"kernel_depth is for three spatial axes, but there are {num_axes}: use kernel_size")
    alone = [first for _, first in _OTHER_FORMS.values() if not in_time and _given(param, first)]
    if alone:
        raise LayerError(f"{alone[0]} must be given with kernel_depth")
    window = Window(
        kernel or _per_axis(param, "kernel_size", "kernel", num_axes, None, in_time),
        _per_axis(param, "stride", "stride", num_axes, 1, in_time),
        _per_axis(param, "pad", "pad", num_axes, 0, in_time),
        _per_axis(param, "dilation", "", num_axes, 1),
    )
    for field in ("kernel", "stride", "dilation"):
        if min(getattr(window, field), default=1) < 1:
            raise LayerError(f"{field} must be at least 1 on every spatial axis, got {getattr(window, field)}")
    if min(window.pad, default=0) < 0:
        raise LayerError(f"pad must not be negative, got {window.pad}")
    return window


def _per_axis(
    param, name: str, stem: str, num_axes: int, default: int | None, in_time: bool = False
) -> tuple[int, ...]:
    """Return a field's values, one for each axis, from `name` or from the other fields of `stem`.

    in_time: the first axis has a field of its own, and `name` is for the others.
    """
    shape, first = _OTHER_FORMS.get(stem, ("", ""))
    if in_time and stem:
        own = getattr(param, first) if _given(param, first) else default
        return (own or 0, *_per_axis(param, name, stem, 2, default))
    parts = _parts(param, name, stem, num_axes, default)
    values = _values(param, name)
    if len([each for each in (values, parts, _given(param, shape)) if each]) > 1:
        both = (shape, " and ".join(parts) or name) if _given(param, shape) else (name, " and ".join(parts))
        raise LayerError(f"give either {both[0]} or {both[1]}, not both")
    if parts:
        return tuple(parts.values())
    if _given(param, shape):
        values, name = list(getattr(param, shape).dim), shape
    if not values:
        if default is None and num_axes:
            raise LayerError(f"{name}, or {stem}_h and {stem}_w, must be given")
        return () if default is None else (default,) * num_axes
    if len(values) not in (1, num_axes):
        raise LayerError(
            f"{name} must be given once or once for each of the {num_axes} spatial axes, got {len(values)} values"
        )
    return tuple(values * (num_axes if len(values) == 1 else 1))


def _values(param, name: str) -> list[int]:
    """Return the values of a field, repeated or not; [] if it is not given."""
    value = getattr(param, name)
    if isinstance(value, Sequence):
        return list(value)
    return all_values(param, name)


def _parts(param, name: str, stem: str, num_axes: int, default: int | None) -> dict[str, int]:
    """Return the values of `stem`_h and `stem`_w; {} if neither is given."""
    given = [f"{stem}_{side}" for side in "hw" if stem and param.HasField(f"{stem}_{side}")]
    if given and num_axes != 2:
        raise LayerError(f"{given[0]} is for two spatial axes, but there are {num_axes}: use {name}")
    if len(given) == 1 and default != 0:
        raise LayerError(f"{stem}_h and {stem}_w must be given together, got only {given[0]}")
    return {part: getattr(param, part) for part in (f"{stem}_h", f"{stem}_w")} if given else {}


def _given(param, name: str) -> bool:
    """Whether a field that the message may not have is given."""
    return name in param.DESCRIPTOR.fields_by_name and param.HasField(name)


# -- windows as slices ------------------------------------------------------------------------------------------------


def overlaps(
    size: int, output: int, kernel: int, stride: int, pad: int, dilation: int = 1
) -> Iterator[tuple[int, slice, slice]]:
    """Along one axis, for each element j of the kernel: j, the windows whose j-th place is inside, and these places.

    Window t has its j-th place at t * stride + j * dilation - pad of an axis of `size` places.
    """
    for j in range(max(0, (pad - output * stride) // dilation), min(kernel, (size - 1 + pad) // dilation + 1)):
        shift = j * dilation - pad
        first = max(0, -(shift // stride))
        last = min(output - 1, (size - 1 - shift) // stride)
        if first <= last:
            yield j, slice(first, last + 1), slice(first * stride + shift, last * stride + shift + 1, stride)


def all_overlaps(
    size: Sequence[int], output: Sequence[int], window: Window
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
    """`overlaps` over all axes; the elements of the window come in reading order."""
    for steps in product(*(list(overlaps(n, o, *axis)) for n, o, *axis in zip(size, output, *window))):
        offset, inside, source = zip(*steps)
        yield offset, inside, source


def places(offset: Sequence[int], window: Window, output: Sequence[int]) -> tuple[slice, ...]:
    """The places in a padded input of element `offset` of the `output` windows."""
    starts = [o * d for o, d in zip(offset, window.dilation)]
    return tuple(slice(a, a + s * (n - 1) + 1, s) for a, s, n in zip(starts, window.stride, output))
