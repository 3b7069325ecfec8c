"""The image functions that `scipy.misc` had until SciPy 1.2, by Pillow, and an old argument of scikit-image."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "cubic": 3}  # numbers of Pillow's


def add_to_scipy_misc(module: ModuleType) -> None:
    """Add the functions that the module lacks."""
    for function in (bytescale, fromimage, imread, imresize, imsave, toimage):
        if function.__name__ not in vars(module):
            setattr(module, function.__name__, function)


def accept_as_grey(module: ModuleType) -> None:
    """Let `imread` and `imread_collection` of scikit-image take `as_grey`, which is called `as_gray` since 0.16."""
    for name in ("imread", "imread_collection"):
        function = getattr(module, name, None)
        if function is not None and "as_grey" not in inspect.signature(function).parameters:
            setattr(module, name, _renaming(function))


def _renaming(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def with_as_grey(*args: Any, **options: Any) -> Any:
        if "as_grey" in options:
            options["as_gray"] = options.pop("as_grey")
        return function(*args, **options)

    return with_as_grey


# -- scipy.misc --------------------------------------------------------------------------------------------------------


def imread(name: Any, flatten: bool = False, mode: str | None = None) -> np.ndarray:
    """Read an image file; result and arguments as for `fromimage`.

    name: a path or an open file.
    """
    with Image.open(name) as image:
        return fromimage(image, flatten, mode)


def imsave(name: Any, arr: Any, format: str | None = None) -> None:
    """Write an array (H, W) or (H, W, 3 or 4) as an image file, its values converted as by `toimage`.

    name: a path or an open file.  format: as Pillow names it; None (default): from the extension.
    """
    toimage(arr, channel_axis=2).save(name, format)


def imresize(arr: Any, size: Any, interp: str = "bilinear", mode: str | None = None) -> np.ndarray:
    """Resize an image to uint8, its values converted as by `toimage`: those that are not uint8 are stretched to 0..255.

    size: (height, width) in pixels; an int: per cent; a float: a factor.
    interp: nearest, lanczos, bilinear (default), bicubic or cubic, with Pillow's smoothing.  mode: as for `toimage`.
    """
    image = toimage(arr, mode=mode)
    if isinstance(size, (int, np.integer)):
        size = size / 100
    if isinstance(size, (float, np.floating)):
        width, height = (int(side * size) for side in image.size)
    else:
        height, width = (int(side) for side in size[:2])
    return fromimage(image.resize((width, height), resample=_FILTERS[interp]))


def fromimage(im: Image.Image, flatten: bool = False, mode: str | None = None) -> np.ndarray:
    """Return the pixels of a Pillow image: (H, W) or (H, W, channels).

    flatten: as one channel of float32 (default False).
    mode: Pillow's mode to convert to first; None (default): that of the image, or RGB for one with a palette.
    """
    if mode is None:
        palettes = {"1": "L", "P": "RGBA" if "transparency" in im.info else "RGB"}
        mode = palettes.get(im.mode, im.mode)
    im = im if im.mode == mode else im.convert(mode)
    return np.array(im.convert("F") if flatten else im)


def toimage(
    arr: Any,
    high: int = 255,
    low: int = 0,
    cmin: float | None = None,
    cmax: float | None = None,
    mode: str | None = None,
    channel_axis: int | None = None,
) -> Image.Image:
    """Return an array (H, W), or with 3 or 4 channels, as a Pillow image.

    high, low, cmin, cmax: arguments of `bytescale`.
    mode: "F" keeps the values of (H, W) as float32; None (default): L, RGB or RGBA by the number of channels.
    channel_axis: the axis of channels; None (default): the first of length 3, else the first of length 4.
    ValueError for arrays of other shapes.
    """
    data = np.asarray(arr)
    if data.ndim == 2 and mode == "F":
        return Image.fromarray(data.astype(np.float32))
    if data.ndim == 2:
        return Image.fromarray(bytescale(data, cmin, cmax, high, low)).convert(mode or "L")
    axis = _channel_axis(data.shape) if channel_axis is None else channel_axis
    if data.ndim != 3 or axis is None or data.shape[axis] not in (3, 4):
        raise ValueError(f"toimage: expected an array (H, W), or with 3 or 4 channels, got shape {data.shape}")
    pixels = np.ascontiguousarray(np.moveaxis(bytescale(data, cmin, cmax, high, low), axis, 2))
    return Image.frombytes(mode or ("RGB", "RGBA")[pixels.shape[2] - 3], pixels.shape[1::-1], pixels.tobytes())


def _channel_axis(shape: Sequence[int]) -> int | None:
    return next((axis for count in (3, 4) for axis, length in enumerate(shape) if length == count), None)


def bytescale(
    data: Any, cmin: float | None = None, cmax: float | None = None, high: int = 255, low: int = 0
) -> np.ndarray:
    """Map the values from `cmin`..`cmax` (None: their minimum and maximum) to `low`..`high`, as uint8.

    uint8 is returned as it is.
    """
    data = np.asarray(data)
    if data.dtype == np.uint8:
        return data
    least = data.min() if cmin is None else cmin
    most = data.max() if cmax is None else cmax
    scaled = (data - least) * (float(high - low) / ((most - least) or 1)) + low
    return (scaled.clip(low, high) + 0.5).astype(np.uint8)
