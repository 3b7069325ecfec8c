"""HDF5Output: writes its bottoms to an HDF5 file."""

import os

from minicaffe import hdf5_file
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.errors import DataError
from minicaffe.files import check_writable, write_atomically


@register("HDF5Output")
class HDF5Output(Layer):
    """Appends bottom 0 to dataset "data" and bottom 1 to dataset "label" of an HDF5 file, at every forward pass.

    Bottoms: (N, ...) and (N, ...), stored with four axes, (N, C, H, W), missing ones as length 1; C, H and W must be
    equal in all batches.  No top.
    hdf5_output_param: file_name, whose folder must be writable; an existing file is replaced at the first forward pass.
    (The original fails at the second one.)  When a batch cannot be written, because the disk is full, DataError.
    """

    family = "data"
    exact_num_bottom = 2
    exact_num_top = 0
    capturable = False  # writes on the host
    repeatable = False
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.file_name = self.layer_param.hdf5_output_param.file_name
        if not self.file_name:
            raise self.error("hdf5_output_param must name a file_name")
        try:
            check_writable(self.file_name)
        except OSError as error:
            raise self._cannot_write(error.strerror) from None
        if os.path.exists(self.file_name) and not os.path.isfile(self.file_name):
            raise self._cannot_write("it is no regular file")
        self._started = False

    def top_shapes(self, bottom_shapes):
        data, label = bottom_shapes
        if not data or not label or data[0] != label[0]:
            raise self.error(f"bottoms must hold equally many items (first axis), got shapes {data} and {label}")
        return []

    def forward_cpu(self, bottom, top):
        values = {name: _four_axes(blob.read_data()) for name, blob in zip(("data", "label"), bottom, strict=True)}
        try:
            if self._started:
                hdf5_file.append(self.file_name, lambda file: self._append(file, values))
            else:
                write_atomically(self.file_name, hdf5_file.content(lambda file: _create(file, values)))
        except OSError as error:
            raise self._cannot_write(error.strerror or error) from error
        except DataError as error:
            raise DataError(f"HDF5Output layer '{self.name}': {error}") from error
        self._started = True

    def _append(self, file, values):
        for name, batch in values.items():
            stored = file[name]
            if stored.shape[1:] != batch.shape[1:]:
                raise self.error(f"batches must agree in shape: {name} holds {stored.shape[1:]}, got {batch.shape[1:]}")
            stored.resize(len(stored) + len(batch), axis=0)
            stored[-len(batch) :] = batch

    def _cannot_write(self, error):
        folder = "" if os.path.isdir(os.path.dirname(self.file_name) or ".") else " (its folder does not exist)"
        return DataError(f"HDF5Output layer '{self.name}': cannot write {self.file_name}{folder}: {error}")

    def backward_cpu(self, top, propagate_down, bottom):
        """No-op: the bottoms get no gradient."""


def _four_axes(values):
    return values.reshape(values.shape + (1,) * (4 - values.ndim))


def _create(file, values):
    for name, batch in values.items():
        file.create_dataset(name, data=batch, maxshape=(None, *batch.shape[1:]))
