"""What the layers share that read images with labels: a reader, a thread that reads ahead, the transformation."""

from __future__ import annotations

import contextlib
import logging

from minicaffe.core.layer import Layer
from minicaffe.core.settings import settings
from minicaffe.data.prefetch import Prefetcher
from minicaffe.data.reader import ALL, BatchReader, Share, usable_position
from minicaffe.data.transformer import BatchTransformer
from minicaffe.errors import DataError
from minicaffe.layers.shared.device_data import device_source
from minicaffe.proto.caffe_pb2 import TRAIN

log = logging.getLogger("minicaffe.data")

PREFETCH = 4  # batches read ahead


def solver_share(phase: int) -> Share:
    """The records that this thread's solver trains on (`set_solver_count`, `set_solver_rank`); in TEST all."""
    return Share(settings.solver_rank, settings.solver_count) if phase == TRAIN else ALL


class BaseData(Layer):
    """Base of Data, ImageData and WindowData: images in top 0, labels in top 1, if it is there.

    A thread reads and decodes ahead; `forward` crops, mirrors and scales straight into the top.  The state for a
    snapshot is the reader's position after the last batch that was *used*, and that of the random stream, so a
    resumed run sees the images an uninterrupted one would have seen.  A process that is forked reads on from that
    position, too.
    """

    exact_num_bottom = 0
    min_top, max_top = 1, 2
    in_place = False
    backward_reads = ()

    def make_transformer(self) -> BatchTransformer:
        """What is done to the images that the reader gives."""
        return BatchTransformer(self.layer_param.transform_param, self.phase == 0, self.rng)

    def open_reader(self) -> BatchReader:
        """The layer's source; called once, after `self.transformer` is there."""
        raise NotImplementedError

    def setup(self, bottom, top):
        self._prefetcher = None
        self._source = None  # of batches on the GPU
        self._source_known = False
        with self.named():
            self.transformer = self.make_transformer()
            self.reader = self.open_reader()
            shape = self.reader.first_shape()
            self.transformer.check_mean(shape)
            self._shapes = [(self.reader.batch_size, *self.transformer.output_shape(shape)), (self.reader.batch_size,)]
        self._position = self.reader.position()
        log.info("output data size: %s", ",".join(map(str, self._shapes[0])))

    def top_shapes(self, bottom_shapes):
        return self._shapes

    def forward_cpu(self, bottom, top):
        if self._source is not None:
            self.go_back(self.position)
        batch = self.next_batch()
        images = batch.images
        with self.named():
            shape = (len(images), *self.transformer.output_shape(images[0].shape))
            self._shapes[0] = shape  # every batch has the size of its first image
            top[0].reshape(shape)
            self.transformer.transform(images, top[0].data)
        if len(top) > 1:
            top[1].data[...] = batch.labels

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
    def capturable(self):
        """Whether batches come from the device; what the host transforms cannot be part of a captured step."""
        return not self._source_known or self._source is not None

    @property
    def position(self) -> dict:
        """The reader's position after the batch that was used last."""
        return self._position if self._source is None else self._source.position

    def go_back(self, position: dict) -> None:
        """Read on after `position`, whatever has been read ahead; the GPU's source is found anew."""
        self._source, self._source_known = None, False
        self._position = position
        self.close()
        self.reader.seek(position)

    def next_batch(self):
        """The next batch as it was read, before the transformation."""
        if self._prefetcher is not None and self._prefetcher.left_behind:
            self.close()
        if self._prefetcher is None:
            self._prefetcher = Prefetcher(self.reader.read, self.prefetch_depth())
        with self.named():
            batch = self._prefetcher.get()
        self._position = batch.position
        return batch

    def prefetch_depth(self) -> int:
        return PREFETCH

    def state(self):
        return {**super().state(), "position": self.position}

    def load_state(self, state):
        super().load_state(state)
        position = usable_position(state.get("position"), self.position, f"{self.layer_param.type} layer '{self.name}'")
        with self.named():
            self.go_back(position)

    def close(self) -> None:
        """End the thread; the next forward starts another one at the position of the last used batch."""
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None
            self.reader.seek(self._position)

    @contextlib.contextmanager
    def named(self):
        """Put the layer's type and name before a `DataError`."""
        try:
            yield
        except DataError as error:
            raise DataError(f"{self.layer_param.type} layer '{self.name}': {error}") from error

    def positive(self, name: str, value: int) -> int:
        """`value`, which must be above 0."""
        if value <= 0:
            raise self.error(f"{name} must be positive, got {value}")
        return value

    def warn_of_old_fields(self, param) -> None:
        """Say that the fields that moved to transform_param in 2014 have no effect where they were."""
        old = [name for name in ("scale", "mean_file", "crop_size", "mirror") if param.HasField(name)]
        if old:
            log.warning(
                "%s layer '%s': %s has no effect here any more; write it into transform_param",
                self.layer_param.type,
                self.name,
                ", ".join(old),
            )
