"""ImageSegData: images with label maps from files, as DeepLab and PSPNet read them."""

from minicaffe.core.registry import register
from minicaffe.data.map_list import MAPS, NOTHING, NUMBERS
from minicaffe.layers.shared.map_data import MapData
from minicaffe.proto.caffe_pb2 import ImageDataParameter

_KINDS = {
    ImageDataParameter.PIXEL: MAPS,
    ImageDataParameter.IMAGE: NUMBERS,
    ImageDataParameter.NONE: NOTHING,
}


@register("ImageSegData")
class ImageSegData(MapData):
    """The images in a text file with lines "image map", endlessly, with label maps; paths have no spaces.

    Tops: images (N, C, H, W), channels in the order blue, green, red, after transform_param; optionally label maps
    (N, 1, H, W), then (N, 1, 1, 2), height and width of what is not padding.
    image_data_param: source, the list; batch_size (1); label_type: PIXEL, the list has paths of label maps, whose gray
    values are the labels; IMAGE (default), it has numbers, the label of all pixels; NONE, the label is ignore_label
    (255); root_folder, the prefix of each path (no slash is added); new_height and new_width, the size to which images
    and maps are resized, both linearly; is_color (true); shuffle (false; true: a new order in each pass over the list);
    rand_skip, start at a random entry below it; threads (0: one for each core), which decode and transform.
    transform_param, in this order: scale_factors, one of which is drawn for each image in TRAIN (images are resized
    linearly, maps to the nearest pixel); crop_size, or crop_height and crop_width, at random in TRAIN and in the centre
    in TEST: smaller images are padded at the bottom and at the right, with 0 after the mean was subtracted, their maps
    with ignore_label; mirror; mean_value; scale.
    Source: Chen et al., DeepLab, 2014; Zhao et al., PSPNet, 2016.
    """

    fork = "DeepLab"
    param_field = "image_data_param"
    exact_num_top = None
    min_top, max_top = 1, 3

    @classmethod
    def map_rules(cls, layer_param):
        factors, fill = layer_param.transform_param.scale_factors, layer_param.image_data_param.ignore_label
        return super().map_rules(layer_param)._replace(scale_factors=tuple(factors), fill=fill)

    def make_transformer(self):
        common = self.layer_param.transform_param
        if common.HasField("mean_file"):
            raise self.error("mean_file must be absent, as images have different sizes: write mean_value")
        if min(common.scale_factors, default=1) <= 0:
            raise self.error(f"scale_factors must be positive, got {', '.join(map(str, common.scale_factors))}")
        return super().make_transformer()

    def reading(self):
        param = self.layer_param.image_data_param
        return {"kind": _KINDS[param.label_type], "mode": "LINEAR", "fill": param.ignore_label}

    def threads(self):
        return self.layer_param.image_data_param.threads
