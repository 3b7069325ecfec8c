"""MemoryData: images and labels from arrays of a script."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.data.arrays import numbers, same_axes, transposed_hint
from minicaffe.data.datum import datum_to_array
from minicaffe.data.transformer import BatchTransformer
from minicaffe.layers.shared.base_data import BaseData
from minicaffe.layers.shared.words import batch_words
from minicaffe.proto import TRAIN
from minicaffe.saved import whole


@register("MemoryData")
class MemoryData(Layer):
    """Batches from arrays in memory, endlessly; `net.set_input_arrays(data, labels)` sets them.

    Tops: images (N, C, H, W), optionally labels (N,).
    memory_data_param: batch_size N, channels, height, width; or dim, the whole shape, of any number of axes.
    transform_param applies to `add_datums`, not to `set_input_arrays`.  Of solvers that train together, each reads the
    arrays that it has been given, whole: a script divides them.
    """

    family = "data"
    more_params = ("transform_param",)
    unread_of_transform = BaseData.unread_of_transform
    exact_num_bottom = 0
    capturable = False  # reads on the host
    min_top, max_top = 1, 2
    in_place = False
    backward_reads = ()

    @staticmethod
    def describe(layer_param):
        shape = layer_param.memory_data_param.dim
        return f"batch {shape[0]}" if shape else batch_words(layer_param.memory_data_param)

    def setup(self, bottom, top):
        param = self.layer_param.memory_data_param
        self.shape = tuple(param.dim) or (param.batch_size, param.channels, param.height, param.width)
        if min(self.shape) <= 0:
            raise self.error(
                "batch_size, channels, height and width must be given and positive, or dim, got "
                + ", ".join(map(str, self.shape))
            )
        self._data: np.ndarray | None = None
        self._labels: np.ndarray | None = None
        self._index = 0

    def top_shapes(self, bottom_shapes):
        return [self.shape, self.shape[:1]]

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Read from `data` (M, ...) and `labels` (M,) from now on; M must be a multiple of the batch size.

        Axes of length 1 may be left out or added.  The arrays are not copied: later writes to them are seen.
        """
        data, labels = (
            numbers(values, f"MemoryData layer '{self.name}': {what}")
            for values, what in ((data, "data"), (labels, "labels"))
        )
        if data.ndim == 0 or not same_axes(data.shape[1:], self.shape[1:]):
            hint = transposed_hint(data.shape, self.shape)
            raise self.error(f"data must have shape (M, {', '.join(map(str, self.shape[1:]))}), got {data.shape}{hint}")
        if not same_axes(labels.shape, (len(data),)):
            raise self.error(
                f"there must be one label for each of {len(data)} images, got {labels.size}, {labels.shape}"
            )
        if len(data) == 0 or len(data) % self.shape[0]:
            raise self.error(f"the number of images must be a multiple of batch_size {self.shape[0]}, got {len(data)}")
        self._data, self._labels, self._index = data.reshape(-1, *self.shape[1:]), labels.reshape(-1), 0

    def add_datums(self, datums) -> None:
        """Read from these Datum messages from now on, transformed once by transform_param."""
        if len(self.shape) != 4:
            raise self.error(f"datums are images, for tops (N, C, H, W); dim is {self.shape}")
        transformer = BatchTransformer(self.layer_param.transform_param, self.phase == TRAIN, self.rng)
        datums = list(datums)
        images = [datum_to_array(datum, transformer.color) for datum in datums]
        data = np.empty((len(images), *self.shape[1:]), self.dtype)
        if images and transformer.output_shape(images[0].shape) != self.shape[1:]:
            raise self.error(
                f"datums must give images of shape {self.shape[1:]}, got {transformer.output_shape(images[0].shape)}"
            )
        if images:
            transformer.transform(images, data)
        self.set_input_arrays(data, np.array([datum.label for datum in datums], self.dtype))

    def set_batch_size(self, batch_size: int) -> None:
        """Change the batch size; the arrays have to be set again."""
        if batch_size <= 0:
            raise self.error(f"the batch size must be positive, got {batch_size}")
        self.shape = (batch_size, *self.shape[1:])
        self._data = self._labels = None

    def forward_cpu(self, bottom, top):
        if self._data is None or self._labels is None:
            raise self.error("there are no images yet: call net.set_input_arrays(data, labels) before forward")
        self.reshape(bottom, top)
        rows = slice(self._index, self._index + self.shape[0])
        for blob, values in zip(top, (self._data, self._labels)):
            blob.data[...] = values[rows]
        self._index = rows.stop % len(self._data)

    def state(self):
        return {**super().state(), "index": self._index}

    def load_state(self, state):
        super().load_state(state)
        index, count = whole({"index": 0, **state}, "index"), 0 if self._data is None else len(self._data)
        self._index = index if index < count and index % self.shape[0] == 0 else 0  # else the arrays are others
