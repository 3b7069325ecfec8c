"""ImageData: images from files, with labels from a list."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.list_data import ListData


@register("ImageData")
class ImageData(ListData):
    """The images in a text file with lines "path label", endlessly.

    Tops: images (N, C, H, W), channels in the order blue, green, red, after transform_param; labels (N,).
    image_data_param: source, the list; batch_size (1); root_folder, the prefix of each path (no slash is added);
    new_height and new_width, the size to resize to, both or none; is_color (true); shuffle (false; true: a new order in
    each pass over the list); rand_skip, start at a random entry below it; threads (0: one for each core), which decode,
    resize and transform, as in NVIDIA's Caffe.  Images of different sizes need new_height and new_width, or a crop.
    """

    param_field = "image_data_param"

    def threads(self):
        return self.layer_param.image_data_param.threads
