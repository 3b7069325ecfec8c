"""The base of layers that read a list of image files."""

from __future__ import annotations

import contextlib
from types import MappingProxyType

from minicaffe.data.image_file import size_of
from minicaffe.data.image_list import ImageListReader, lines_of
from minicaffe.data.shuffle import draw_order
from minicaffe.errors import DataError
from minicaffe.layers.shared.base_data import BaseData, solver_share


class ListData(BaseData):
    """Base of ImageData and of layers that read label maps.

    A subclass states `param_field`, whose message has source, batch_size, rand_skip, shuffle, new_height, new_width,
    is_color and root_folder; and `list_reader` with further arguments in `reading`, if it is not an `ImageListReader`.
    """

    unread_of_transform = MappingProxyType({
        **BaseData.unread_of_transform,
        "force_color": "write is_color: true, which is the default",
        "force_gray": "write is_color: false",
    })  # fmt: skip
    exact_num_top: int | None = 2
    list_reader: type[ImageListReader] = ImageListReader

    @classmethod
    def image_shape(cls, layer_param):
        param = getattr(layer_param, cls.param_field)
        height, width = param.new_height, param.new_width
        if not (height or width):
            with contextlib.suppress(DataError):  # building the net reports it
                width, height = size_of(param.root_folder + cls.first_image(param.source))
        return 3 if param.is_color else 1, height, width

    @staticmethod
    def first_image(source: str) -> str:
        """Return the path in the first line of a list; DataError if there is none, or if it is not read whole."""
        _, line = next(lines_of(source))
        return line.rstrip().rpartition(" ")[0].rstrip()

    def reading(self) -> dict:
        """Return further arguments for `list_reader`."""
        return {}

    def open_reader(self):
        param = getattr(self.layer_param, self.param_field)
        self.warn_of_old_fields(param)
        size = (param.new_height, param.new_width)
        if bool(size[0]) != bool(size[1]):
            raise self.error(f"new_height and new_width must be given together, got {size[0]} and {size[1]}")
        with self.rng.as_root():  # the same at all ranks, which share one list
            skip = int(self.rng.generator().integers(param.rand_skip)) if param.rand_skip else 0
        return self.list_reader(
            param.source, param.root_folder, self.positive(f"{self.param_field}.batch_size", param.batch_size),
            param.is_color, size if size[0] else None, draw_order(self.rng) if param.shuffle else None, skip,
            solver_share(self.phase), **self.reading(),
        )  # fmt: skip
