"""DenseImageData: images with label maps from files, as SegNet reads them."""

from minicaffe.core.registry import register
from minicaffe.data.map_transformer import MapRules
from minicaffe.layers.shared.map_data import MapData


@register("DenseImageData")
class DenseImageData(MapData):
    """The images and label maps in a text file with lines "image map", endlessly; paths have no spaces.

    Tops: images (N, C, H, W), channels in the order blue, green, red, minus the mean and times the scale of
    transform_param; label maps (N, 1, H, W), the gray values of the files.  An image and its map have one size.
    dense_image_data_param: source, the list; batch_size, required; root_folder, the prefix of each path (no slash is
    added); new_height and new_width, both or none: images are resized linearly, maps to the nearest pixel; crop_height
    and crop_width, both or none: of a part at a random place, in both phases; mirror (false; true: flipped left to
    right with probability 1/2, in both phases); is_color (true); shuffle (false; true: a new order in each pass over
    the list); rand_skip, start at a random entry below it; label_divide_factor (1): maps are (N, 1, H / factor,
    W / factor), rounded down, by the nearest pixel, as in ENet's Caffe; mean_file has no effect.
    Source: Badrinarayanan, Kendall and Cipolla, SegNet, 2015.
    """

    fork = "SegNet"
    param_field = "dense_image_data_param"

    @classmethod
    def map_rules(cls, layer_param):
        param = layer_param.dense_image_data_param
        return MapRules(
            (param.crop_height, param.crop_width), param.mirror, True, label_divisor=param.label_divide_factor
        )

    def warn_of_old_fields(self, param):
        """Warn of nothing: mirror belongs to this message."""

    def make_transformer(self):
        common = self.layer_param.transform_param
        for field, instead in (("mirror", "mirror"), ("crop_size", "crop_height and crop_width")):
            if getattr(common, field):
                raise self.error(f"{field} of transform_param must be absent: write {instead} in {self.param_field}")
        self.positive("label_divide_factor", self.layer_param.dense_image_data_param.label_divide_factor)
        return super().make_transformer()

    def label_shapes(self, image):
        maps, *others = super().label_shapes(image)
        if not all(maps[2:]):
            factor = self.layer_param.dense_image_data_param.label_divide_factor
            raise self.error(f"label_divide_factor must be at most the size of the images, {image[2:]}, got {factor}")
        return [maps, *others]
