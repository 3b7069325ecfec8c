"""ImageGtData: images with boxes, and for each map of a detector which box belongs to each place."""

from types import MappingProxyType

from minicaffe.core.registry import register
from minicaffe.data.shuffle import draw_order
from minicaffe.data.truth_windows import TruthReader
from minicaffe.layers.shared.base_data import solver_share
from minicaffe.layers.shared.image_gt_transformer import ImageGtTransformer
from minicaffe.layers.shared.truth_data import TruthData
from minicaffe.proto import TRAIN


@register("ImageGtData")
class ImageGtData(TruthData):
    """The images of a window file, endlessly, and the boxes that belong to the places of each map.

    Tops: images (N, 3, H, W); for each downsample_rate s labels (N, 6, H / s, W / s): class (0: background), x and y of
    the centre, width and height of the box in pixels, and the overlap of the place's own box, field_w x field_h, with
    it; with output_gt_boxes at last the boxes of the batch (n, 7, 1, 1), rows (image, x1, y1, x2, y2, class, ignored).

    image_gt_data_param, besides the maps' fields: source, a file with "# index", path, channels, height, width, number
    of boxes and lines "class ignored x1 y1 x2 y2", number of regions that do not count and lines "x1 y1 x2 y2" for each
    image; root_folder; batch_size N; resize_width and resize_height; crop_width and crop_height, H and W, about a box
    chosen at random; do_multiple_scale, min_scale, max_scale, min_whaspect, max_whaspect: random sizes of that box;
    fg_threshold (0.5); min_gt_width, min_gt_height; shuffle; fg_img_multiple (1); scale (1).
    transform_param: mean_value and mirror.
    Crops and scales are random in TEST, too.
    Source: Cai, Fan, Feris and Vasconcelos, A unified multi-scale deep convolutional neural network for fast object
    detection, 2016.
    """

    fork = "MS-CNN"
    param_field = "image_gt_data_param"
    unread_of_transform = MappingProxyType(
        {
            **TruthData.unread_of_transform,
            "resize_param": "write resize_width and resize_height",
            "scale": "write it in image_gt_data_param",
        }
    )
    min_top = 2

    def setup(self, bottom, top):
        param = self.layer_param.image_gt_data_param
        self.check_maps(param, "downsample_rate", len(top))
        if param.HasField("min_scale") and not 0 < param.min_scale <= param.max_scale:
            raise self.error(f"min_scale must be from 1 to max_scale, got {param.min_scale} and {param.max_scale}")
        super().setup(bottom, top)

    def make_transformer(self):
        param = self.layer_param.image_gt_data_param
        return ImageGtTransformer(param, self.layer_param.transform_param, self.phase == TRAIN, self.rng)

    def open_reader(self):
        param = self.layer_param.image_gt_data_param
        return TruthReader(
            param.source, param.root_folder, self.positive("image_gt_data_param.batch_size", param.batch_size),
            self.positive("image_gt_data_param.fg_img_multiple", param.fg_img_multiple),
            seed=draw_order(self.rng) if param.shuffle else None, share=solver_share(self.phase),
        )  # fmt: skip
