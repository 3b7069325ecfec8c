"""HDF5Data: arrays of any shape from HDF5 files."""

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.data.hdf5 import Hdf5Reader, first_row_shapes
from minicaffe.data.reader import usable_position
from minicaffe.data.shuffle import draw_order
from minicaffe.errors import DataError
from minicaffe.layers.shared.base_data import solver_share
from minicaffe.layers.shared.words import batch_words


@register("HDF5Data")
class HDF5Data(Layer):
    """Rows of the HDF5 datasets that the tops are named after, endlessly over the files of a list.

    Top i: (N, ...), N rows of the dataset with its name, of any number type.
    hdf5_data_param: source, a text file that lists HDF5 files; batch_size N; shuffle (false; true: files, and the
    rows of each file, in a new order in each pass; rows of two files are not mixed).  transform_param is an error: the
    data may have any shape.
    """

    family = "data"
    more_params = ("transform_param",)  # to refuse it
    exact_num_bottom = 0
    capturable = False  # reads on the host
    min_top = 1
    in_place = False
    backward_reads = ()

    @staticmethod
    def describe(layer_param):
        return batch_words(layer_param.hdf5_data_param)

    @classmethod
    def source_shapes(cls, layer_param):
        param = layer_param.hdf5_data_param
        try:
            return [(param.batch_size, *shape) for shape in first_row_shapes(param.source, layer_param.top)]
        except DataError:  # building the net reports it
            return [None] * len(layer_param.top)

    def setup(self, bottom, top):
        param = self.layer_param.hdf5_data_param
        if self.layer_param.HasField("transform_param"):
            raise self.error("does not transform data: remove transform_param, or store the data transformed")
        if param.batch_size <= 0:
            raise self.error(f"hdf5_data_param.batch_size must be positive, got {param.batch_size}")
        self.batch_size = param.batch_size
        try:
            seed = draw_order(self.rng) if param.shuffle else None
            self.reader = Hdf5Reader(param.source, list(self.layer_param.top), seed, solver_share(self.phase))
        except DataError as error:
            raise DataError(f"HDF5Data layer '{self.name}': {error}") from error
        self._shapes = [(self.batch_size, *shape) for shape in self.reader.row_shapes()]

    @property
    def records(self) -> int | None:
        """The number of rows that a pass over the source reads; None for several files, which are not all read yet."""
        return self.reader.records

    def top_shapes(self, bottom_shapes):
        return self._shapes

    def forward_cpu(self, bottom, top):
        try:
            self.reader.read_into([blob.data for blob in top])
        except DataError as error:
            raise DataError(f"HDF5Data layer '{self.name}': {error}") from error

    def state(self):
        return {**super().state(), "position": self.reader.position()}

    def load_state(self, state):
        super().load_state(state)
        self.load_common_state(state)

    def load_common_state(self, state):
        position = usable_position(state.get("position"), self.reader.position(), f"HDF5Data layer '{self.name}'")
        try:
            self.reader.seek(position)
        except DataError as error:
            raise DataError(f"HDF5Data layer '{self.name}': {error}") from error
