"""Data: images and labels from a database."""

from minicaffe.data.reader import DatabaseReader
from minicaffe.layer import register
from minicaffe.layers.base_data import BaseData


@register("Data")
class Data(BaseData):
    """The records of an LMDB or LevelDB, in the order of their keys, round and round.

    Tops: images (N, C, H, W), after transform_param; optionally labels (N,).  N is batch_size, the rest the size of
    the batch's first record, cropped.
    data_param: source, a folder; batch_size; backend (LEVELDB); prefetch (4), batches read ahead; force_encoded_color,
    decode to three channels.  Its rand_skip, scale, mean_file, crop_size and mirror have no effect (see
    transform_param).
    """

    def open_reader(self):
        param = self.layer_param.data_param
        self.warn_of_old_fields(param)
        batch_size = self.positive("data_param.batch_size", param.batch_size)
        color = True if param.force_encoded_color else self.transformer.color
        return DatabaseReader(param.source, param.backend, batch_size, color)

    def prefetch_depth(self):
        return self.positive("data_param.prefetch", self.layer_param.data_param.prefetch)
