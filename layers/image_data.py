"""ImageData: images from files, with labels from a list."""

from minicaffe.core.registry import register
from minicaffe.data.image_list import ImageListReader
from minicaffe.data.shuffle import draw_order
from minicaffe.layers.shared.base_data import BaseData, solver_share


@register("ImageData")
class ImageData(BaseData):
    """The images in a text file with lines "path label", endlessly.

    Tops: images (N, C, H, W), channels in the order blue, green, red, after transform_param; labels (N,).
    image_data_param: source, the list; batch_size (1); root_folder, the prefix of each path (no slash is added);
    new_height and new_width, the size to resize to, both or none; is_color (true); shuffle (false; true: a new order in
    each pass over the list); rand_skip, start at a random entry below it; threads (0: one for each core), which decode,
    resize and transform, as in NVIDIA's Caffe.  Images of different sizes need new_height and new_width, or a crop.
    """

    param_field = "image_data_param"
    unread_of_transform = {
        **BaseData.unread_of_transform,
        "force_color": "write is_color: true in image_data_param, which is the default",
        "force_gray": "write is_color: false in image_data_param",
    }
    exact_num_top = 2

    @staticmethod
    def image_shape(layer_param):
        param = layer_param.image_data_param
        return 3 if param.is_color else 1, param.new_height, param.new_width

    def open_reader(self):
        param = self.layer_param.image_data_param
        self.warn_of_old_fields(param)
        size = (param.new_height, param.new_width)
        if bool(size[0]) != bool(size[1]):
            raise self.error(f"new_height and new_width must be given together, got {size[0]} and {size[1]}")
        with self.rng.as_root():  # the same at all ranks, which share one list
            skip = int(self.rng.generator().integers(param.rand_skip)) if param.rand_skip else 0
        return ImageListReader(
            param.source, param.root_folder, self.positive("image_data_param.batch_size", param.batch_size),
            param.is_color, size if size[0] else None, draw_order(self.rng) if param.shuffle else None, skip,
            solver_share(self.phase),
        )  # fmt: skip

    def threads(self):
        return self.layer_param.image_data_param.threads
