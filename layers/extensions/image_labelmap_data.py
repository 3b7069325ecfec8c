"""ImageLabelmapData: images with maps of edges from files, as HED reads them."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.map_data import MapData


@register("ImageLabelmapData")
class ImageLabelmapData(MapData):
    """The images and maps in a text file with lines "image map", endlessly; paths have no spaces.

    Tops: images (N, C, H, W), channels in the order blue, green, red, after transform_param; maps (N, 1, H, W): 1 where
    the gray value of the file is at least 128, else 0.  An image and its map have one size.
    image_data_param: source, the list; batch_size (1); normalize (true; false: maps have the gray values, as in
    DeepSkeleton's fork, and in that of DSS without it); root_folder, the prefix of each path (no slash is added);
    new_height and new_width, the size to which images and maps are resized, both linearly; is_color (true); shuffle
    (false; true: a new order in each pass over the list); rand_skip, start at a random entry below it; threads (0: one
    for each core), which decode and transform.
    transform_param: crop_size, at a random place, in both phases; mirror; of the image only, mean and scale.
    Source: Xie and Tu, Holistically-Nested Edge Detection, 2015.
    """

    fork = "HED"
    param_field = "image_data_param"

    @classmethod
    def map_rules(cls, layer_param):
        return super().map_rules(layer_param)._replace(random_crop=True)

    def reading(self):
        return {"mode": "LINEAR", "normalized": self.layer_param.image_data_param.normalize}

    def threads(self):
        return self.layer_param.image_data_param.threads
