"""HDF5Output: writes its bottoms to an HDF5 file."""

import os

import h5py

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.errors import DataError


@register("HDF5Output")
class HDF5Output(Layer):
    """Appends bottom 0 to dataset "data" and bottom 1 to dataset "label" of an HDF5 file, at every forward pass.

    Bottoms: (N, ...) and (N, ...), stored with four axes, (N, C, H, W), missing ones as length 1; C, H and W must be
    equal in all batches.  No top.
    hdf5_output_param: file_name; an existing file is replaced at the first forward pass.  (The original fails at the
    second one.)
    """

    family = "data"
    exact_num_bottom = 2
    exact_num_top = 0
    capturable = False  # writes on the host
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.file_name = self.layer_param.hdf5_output_param.file_name
        if not self.file_name:
            raise self.error("hdf5_output_param must name a file_name")
        self._started = False

    def top_shapes(self, bottom_shapes):
        data, label = bottom_shapes
        if not data or not label or data[0] != label[0]:
            raise self.error(f"bottoms must hold equally many items (first axis), got shapes {data} and {label}")
        return []

    def forward_cpu(self, bottom, top):
        try:
            with h5py.File(self.file_name, "a" if self._started else "w") as file:
                for name, blob in zip(("data", "label"), bottom, strict=True):
                    self._append(file, name, blob.read_data())
        except OSError as error:
            folder = "" if os.path.isdir(os.path.dirname(self.file_name) or ".") else " (its folder does not exist)"
            raise DataError(
                f"HDF5Output layer '{self.name}': cannot write {self.file_name}{folder}: {error}"
            ) from error
        self._started = True

    def _append(self, file, name, values):
        shape = values.shape + (1,) * (4 - values.ndim)
        if name not in file:
            file.create_dataset(name, data=values.reshape(shape), maxshape=(None, *shape[1:]))
            return
        stored = file[name]
        if stored.shape[1:] != shape[1:]:
            raise self.error(f"batches must agree in shape: {name} holds {stored.shape[1:]}, got {shape[1:]}")
        stored.resize(len(stored) + shape[0], axis=0)
        stored[-shape[0] :] = values.reshape(shape)

    def backward_cpu(self, top, propagate_down, bottom):
        """No-op: the bottoms get no gradient."""
