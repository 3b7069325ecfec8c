"""The base of layers that read labelled images: a reader, a prefetching thread, the transformation."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from types import MappingProxyType

from minicaffe.core.layer import Layer
from minicaffe.core.settings import settings
from minicaffe.data.feed import Feed, Transformed
from minicaffe.data.reader import ALL, BatchReader, Share, usable_position
from minicaffe.data.transformer import BatchTransformer, crop_of
from minicaffe.errors import DataError
from minicaffe.layers.shared.device_data import device_source
from minicaffe.layers.shared.words import batch_words
from minicaffe.proto import TRAIN
from minicaffe.proto.further import all_values

log = logging.getLogger("minicaffe.data")

PREFETCH = 4  # batches that are read ahead


def solver_share(phase: int) -> Share:
    """The records that this thread's solver trains on (`set_solver_count`, `set_solver_rank`); in TEST all."""
    return Share(settings.solver_rank, settings.solver_count) if phase == TRAIN else ALL


class BaseData(Layer):
    """Base of Data, ImageData and WindowData: images in top 0, labels in the optional top 1.

    Threads read, decode and transform ahead (see `Feed`); `forward` copies a batch into the top.  The state for a
    snapshot is the reader's position after the last batch that was *used*, and the position of the random stream at
    that batch, so a resumed run gets the same images as an uninterrupted one.  A forked process continues from that
    position, too.
    """

    family = "data"
    more_params: tuple[str, ...] = ("transform_param",)
    unread_of_transform: Mapping[str, str] = MappingProxyType(
        dict.fromkeys(BatchTransformer.not_applied, "AnnotatedData applies it")
    )
    exact_num_bottom = 0
    min_top = 1
    max_top: int | None = 2
    in_place = False
    backward_reads = ()

    @classmethod
    def describe(cls, layer_param):
        return batch_words(getattr(layer_param, cls.param_field))

    @classmethod
    def source_shapes(cls, layer_param):
        batch, common = getattr(layer_param, cls.param_field).batch_size, layer_param.transform_param
        channels, *size = cls.image_shape(layer_param)
        for resize in all_values(common, "resize_param"):  # of several, the first batch has one of the sizes
            size = [resize.height, resize.width]
            if resize.resize_mode == resize.FIT_SMALL_SIZE or len(common.more_resize_param):
                size = [0, 0]
        height, width = crop_of(common)
        size = [height or size[0], width or size[1]]
        channels = 3 if common.force_color else channels or len(common.mean_value)
        image = (batch, channels, *size) if batch and channels and all(size) else None
        label = (batch,) if batch else None
        return [image, label, *[None] * len(layer_param.top)][: len(layer_param.top)]

    @staticmethod
    def image_shape(layer_param) -> tuple[int, int, int]:
        """Return (C, H, W) of the images as read, from the parameters and the first record; 0 for an unknown length.

        It is used without building the layer, so it raises no error.
        """
        return 0, 0, 0

    def make_transformer(self) -> BatchTransformer:
        """Return the transformation of the images that the reader returns."""
        return BatchTransformer(self.layer_param.transform_param, self.phase == TRAIN, self.rng)

    @property
    def records(self) -> int | None:
        """The number of records that a pass over the source reads, each once; None if there are no such passes."""
        return self.reader.records

    def label_shapes(self, image: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return the shapes of the tops behind the images before the first batch; the reader is open.

        image: the shape of top 0, (N, C, H, W).
        """
        return [(self.reader.batch_size,)]

    def open_reader(self) -> BatchReader:
        """Return the layer's reader; called once, after `self.transformer` is set."""
        raise NotImplementedError

    def setup(self, bottom, top):
        self._feed: Feed | None = None
        self._source = None  # of batches on the device, see device_data.py
        self._source_known = False
        with self.named():
            self.transformer = self.make_transformer()
            self.reader = self.open_reader()
            shape = self.reader.first_shape()
            self.transformer.check_mean(self.transformer.resized_shape(shape), lambda _: self.reader.first_name())
            image = (self.reader.batch_size, *self.transformer.output_shape(shape))
            self._shapes = [image, *self.label_shapes(image)]
        self._position = self.reader.position()
        log.info("output data size: %s", ",".join(map(str, self._shapes[0])))

    def top_shapes(self, bottom_shapes):
        return self._shapes

    def forward_cpu(self, bottom, top):
        if self._source is not None:
            self.go_back(self.position)
        batch = self.next_transformed()
        self._shapes = [each.shape for each in batch.tops]  # a batch has the size of its first image
        for blob, own in zip(top, batch.tops):
            blob.reshape(own.shape)
            blob.data[...] = own

    def forward_gpu(self, bottom, top):
        if not self._source_known:
            with self.named():
                self._source, self._source_known = device_source(self, len(top) > 1), True
        if self._source is not None and not self._source.ready:
            self.go_back(self.position)
            self._source_known = True
        if self._source is None:
            self.forward_cpu(bottom, top)
            return
        labels = top[1].mutable_gpu_data() if len(top) > 1 else 0
        with self.named():
            self._source.next_batch(top[0].mutable_gpu_data(), labels)

    @property
    def capturable(self):  # type: ignore[override]  # nothing sets it
        """True if batches are produced on the device, so that a step can be captured."""
        return not self._source_known or (self._source is not None and self._source.ready)

    @property
    def position(self) -> dict:
        """The reader's position after the last batch that was used."""
        return self._position if self._source is None else self._source.position

    def go_back(self, position: dict) -> None:
        """Continue after `position`; batches that were read ahead and the device's source are dropped."""
        self._source, self._source_known = None, False
        self._position = position
        self.close()
        self.reader.seek(position)

    def next_batch(self):
        """Return the next batch, before the transformation."""
        with self.named():
            batch = self._open_feed(transforms=False).next_batch()
        self._position = batch.position
        return batch

    def next_transformed(self) -> Transformed:
        """Return the next batch, transformed with numbers that follow the present state of the layer's stream."""
        with self.named():
            batch = self._open_feed(transforms=True).next_transformed(self.transformer, self.dtype)
            if batch.before != self.rng.get_state():  # the stream was set after this batch was drawn for
                self.close()
                batch = self._open_feed(transforms=True).next_transformed(self.transformer, self.dtype)
            self._position = batch.position
            self.rng.set_state(batch.after)
            if batch.error is not None:
                raise batch.error
        return batch

    def _open_feed(self, transforms: bool) -> Feed:
        """Return the layer's Feed, a new one if there is none, or one of another kind or of a parent process."""
        if self._feed is not None and (self._feed.left_behind or self._feed.transforms and not transforms):
            self.close()
        if self._feed is None:
            self._feed = Feed(self.reader, self.prefetch_depth(), self.threads())
        return self._feed

    def threads(self) -> int:
        """Return the number of threads that decode and transform; 0: one for each core."""
        return 0

    def prefetch_depth(self) -> int:
        return PREFETCH

    def state(self):
        return {**super().state(), "position": self.position}

    def load_state(self, state):
        super().load_state(state)
        self._restore_position(state)

    def load_common_state(self, state):
        self._restore_position(state)

    def _restore_position(self, state: dict) -> None:
        position = usable_position(state.get("position"), self.position, f"{self.layer_param.type} layer '{self.name}'")
        with self.named():
            self.go_back(position)

    def close(self) -> None:
        """End the threads; the next forward pass starts new ones after the last batch that was used."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None
            self.reader.seek(self._position)

    @contextlib.contextmanager
    def named(self):
        """Prefix a `DataError` with the layer's type and name."""
        try:
            yield
        except DataError as error:
            raise DataError(f"{self.layer_param.type} layer '{self.name}': {error}") from error

    def positive(self, name: str, value: int) -> int:
        """Return `value`; raise LayerError unless it is above 0."""
        if value <= 0:
            raise self.error(f"{name} must be positive, got {value}")
        return value

    def warn_of_old_fields(self, param) -> None:
        """Log a warning for fields that moved to transform_param in 2014 and have no effect here."""
        old = [name for name in ("scale", "mean_file", "crop_size", "mirror") if param.HasField(name)]
        if old:
            log.warning(
                "%s layer '%s': %s has no effect here any more; write it into transform_param",
                self.layer_param.type,
                self.name,
                ", ".join(old),
            )
