"""Values that go to the places which a mask names, as those of a MAX Pooling: Upsample, Unpooling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer, fill_bytes
from minicaffe.layers.shared.views import parts, truncated


class MaskedPlaces:
    """y[n, c, mask[n, c, i]] = x[n, c, i], 0 elsewhere, for blobs x and mask (N, C, h, w) and y (N, C, H, W).

    Of two values for one place the later one is kept.  layer: whose errors these are.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._winners: DeviceBuffer | None = None  # on the device: the index of the value of each element of y

    def apply(self, x: Blob, mask: Blob, y: Blob) -> None:
        """Write the data of y; LayerError for a mask that points outside of it."""
        values, out = _pictures(x.read_data()), _pictures(y.data)
        for part, places in self._places(mask, y):
            out[part] = 0
            out[part].reshape(-1)[places] = values[part]

    def adjoint(self, y: Blob, mask: Blob, x: Blob) -> None:
        """Write the diff of x from that of y."""
        dx, dy = _pictures(x.diff), _pictures(y.read_diff())
        for part, places in self._places(mask, y):
            dx[part] = dy[part].reshape(-1)[places]

    def apply_gpu(self, x: Blob, mask: Blob, y: Blob) -> None:
        """`apply` on the device, where a mask that points outside is ignored."""
        n, dtype = y.count, y.dtype
        if self._winners is None or self._winners.nbytes < 4 * n:
            self._winners = DeviceBuffer(4 * n)
        fill_bytes(self._winners.ptr, 0xFF, 4 * n)  # -1
        sizes = x.count_range(2), y.count_range(2)
        kernel("masked_places", "claim", dtype)(x.count, *sizes, mask.gpu_data(), self._winners)
        kernel("masked_places", "put", dtype)(n, x.gpu_data(), self._winners, y.mutable_gpu_data())

    def adjoint_gpu(self, y: Blob, mask: Blob, x: Blob) -> None:
        """`adjoint` on the device."""
        sizes, take = (x.count_range(2), y.count_range(2)), kernel("masked_places", "take", y.dtype)
        take(x.count, *sizes, y.gpu_diff(), mask.gpu_data(), x.mutable_gpu_diff())

    def _places(self, mask: Blob, y: Blob) -> Iterator[tuple[slice, np.ndarray]]:
        """For slices of the pictures: the index of each of their values in that slice of y."""
        masks = _pictures(mask.read_data())
        height, width = y.shape[2:]
        for part in parts(masks):
            places = truncated(masks[part], np.intp)
            if places.size and (places.min() < 0 or places.max() >= height * width):
                raise self._layer.error(
                    f"the mask points to place {places.max()} of pictures of {height} x {width} places: the pooling "
                    f"before it saw pictures of another size"
                )
            places += np.arange(len(places))[:, None] * (height * width)
            yield part, places


def _pictures(values: np.ndarray) -> np.ndarray:
    return values.reshape(values.shape[0] * values.shape[1], values.shape[2] * values.shape[3])
