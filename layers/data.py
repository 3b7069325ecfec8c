"""Data: images and labels from a database."""

import contextlib
import logging

from minicaffe.core.registry import register
from minicaffe.data.datum import DatumDecoder
from minicaffe.data.db import open_db
from minicaffe.data.reader import DatabaseReader, ShuffledReader
from minicaffe.data.shuffle import draw_order
from minicaffe.errors import DataError
from minicaffe.layers.shared.base_data import BaseData, solver_share

log = logging.getLogger("minicaffe.data")


@register("Data")
class Data(BaseData):
    """The records of an LMDB or LevelDB, endlessly, in the order of their keys or shuffled.

    Tops: images (N, C, H, W), after transform_param; optionally labels (N,).  N is batch_size, the rest the size of
    the batch's first record, cropped.
    data_param: source, a folder; batch_size; backend (LEVELDB); prefetch (4), batches read ahead; force_encoded_color
    (false; true: decode to three channels); shuffle (false; true: a new order in each pass over the records, as in
    NVIDIA's and Intel's Caffe); threads (0: one for each core), which decode and transform, as in NVIDIA's.  Its
    rand_skip, scale, mean_file, crop_size and mirror have no effect (see transform_param).
    """

    param_field = "data_param"

    @staticmethod
    def image_shape(layer_param):
        param = layer_param.data_param
        try:
            with contextlib.closing(open_db(param.source, param.backend)) as database:
                image, _ = DatumDecoder(param.source).decode(*next(database.items()))
                channels, height, width = image.shape
                return channels, height, width
        except (DataError, StopIteration):  # no database, or not a readable one: building the net reports it
            return 0, 0, 0

    def open_reader(self):
        param = self.layer_param.data_param
        self.warn_of_old_fields(param)
        if param.rand_skip:
            log.warning("%s layer '%s': rand_skip has no effect, as in the original", self.layer_param.type, self.name)
        batch_size = self.positive("data_param.batch_size", param.batch_size)
        decoder = self.make_decoder(param.source, True if param.force_encoded_color else self.transformer.color)
        share = solver_share(self.phase)
        if param.shuffle:
            return ShuffledReader(param.source, param.backend, batch_size, decoder, draw_order(self.rng), share)
        return DatabaseReader(param.source, param.backend, batch_size, decoder, share)

    def make_decoder(self, source: str, color: bool | None) -> DatumDecoder:
        """Return the decoder of the records of the source; color: as for `datum_to_array`."""
        return DatumDecoder(source, color)

    def prefetch_depth(self):
        return self.positive("data_param.prefetch", self.layer_param.data_param.prefetch)

    def threads(self):
        return self.layer_param.data_param.threads
