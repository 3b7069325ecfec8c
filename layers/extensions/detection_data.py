"""DetectionData: images with boxes, and for each map of a detector which box belongs to each place."""

from types import MappingProxyType

from minicaffe.core.registry import register
from minicaffe.data.shuffle import draw_order
from minicaffe.data.truth_windows import TruthReader
from minicaffe.layers.shared.base_data import solver_share
from minicaffe.layers.shared.detection_transformer import DetectionTransformer
from minicaffe.layers.shared.truth_data import TruthData
from minicaffe.proto import TRAIN

_SHUFFLES = ("random", "random_aspect", "random_mix_aspect")
_SIZES = {  # pairs of fields, which exclude pairs
    ("resize_width", "resize_height"): ("resize_ratio", "short_size", "long_size"),
    ("short_size", "long_size"): ("resize_ratio",),
    ("crop_width", "crop_height"): ("crop_short_size", "crop_long_size"),
    ("min_scale", "max_scale"): ("low_scale_ratio", "high_scale_ratio"),
}
_ORDERED = (
    ("short_size", "long_size"), ("crop_short_size", "crop_long_size"), ("min_scale", "max_scale"),
    ("low_scale_ratio", "high_scale_ratio"), ("min_whaspect", "max_whaspect"),
)  # fmt: skip


@register("DetectionData")
class DetectionData(TruthData):
    """The images of a window file, endlessly, and the boxes that belong to the places of each map.

    Tops: images (N, 3, H, W); for each stride s labels (N, 6, H / s, W / s): class (0: background), x and y of the
    centre, width and height of the box in pixels, and the overlap of the place's own box, field_w x field_h, with it;
    with output_gt_boxes at last the boxes of the batch (n, 8, 1, 1), rows (image, x1, y1, x2, y2, class, ignored,
    difficult), -1 without any.  Boxes include their last pixel.

    Images are resized to resize_width and resize_height, or by resize_ratio, or their short side to short_size.  A
    batch has the size of crop_width and crop_height, or of crop_short_size and crop_long_size, or of short_size and
    long_size, where the long side is that of its first image; else it has that image's.  Sizes by short_size are
    multiples of 32, after one of template_ratio is applied.  Images are cut about a box chosen at random, or padded.

    detection_data_param, besides these: source, a file with "# index", path, channels, height, width, number of boxes
    and lines "class ignored difficult x1 y1 x2 y2", number of regions that do not count and lines "x1 y1 x2 y2" for
    each image; root_folder; batch_size N; min_scale and max_scale of that box, or low_scale_ratio and high_scale_ratio,
    with multiscale_prob (0.5), and min_whaspect and max_whaspect: random sizes; distort_param, as of AnnotatedData;
    min_gt_width, min_gt_height; fg_threshold (0.5): a place has a box that it overlaps by more; pickup_iou_thr (0.2);
    ignore_fg_threshold (0.4): places in regions; anchor_ignore_margin_ratio or anchor_ignore_iou_thr: places at the
    border do not count; shuffle "random", "random_aspect" (tall images apart from wide ones) or "random_mix_aspect"
    (in groups of mix_group_size, 64).
    transform_param: mean_value, scale and mirror.
    Crops and scales are random in TEST, too.
    Source: Cai and Vasconcelos, Cascade R-CNN, 2018.
    """

    fork = "Cascade R-CNN"
    param_field = "detection_data_param"
    unread_of_transform = MappingProxyType(
        {**TruthData.unread_of_transform, "resize_param": "write short_size and long_size"}
    )

    def setup(self, bottom, top):
        param = self.layer_param.detection_data_param
        self.check_maps(param, "stride", len(top))
        for pair, others in _SIZES.items():
            both = [name for name in others if all(map(param.HasField, (*pair, name)))]
            if both:
                raise self.error(f"{' and '.join(pair)} cannot be given together with {both[0]}")
        for low, high in _ORDERED:
            least, most = getattr(param, low), getattr(param, high)
            if param.HasField(low) and param.HasField(high) and not 0 < least <= most:
                raise self.error(f"{low} must be above 0 and not above {high}, got {least:g} and {most:g}")
        if not all(ratio > 0 for ratio in param.template_ratio):
            raise self.error(f"template_ratio must be above 0, got {list(param.template_ratio)}")
        if param.HasField("shuffle") and param.shuffle not in _SHUFFLES:
            raise self.error(f"shuffle must be one of {', '.join(_SHUFFLES)}, got '{param.shuffle}'")
        super().setup(bottom, top)

    def make_transformer(self):
        param = self.layer_param.detection_data_param
        return DetectionTransformer(param, self.layer_param.transform_param, self.phase == TRAIN, self.rng)

    def open_reader(self):
        param = self.layer_param.detection_data_param
        together = self.positive("detection_data_param.mix_group_size", param.mix_group_size)
        shuffle = param.shuffle if param.HasField("shuffle") else ""
        return TruthReader(
            param.source, param.root_folder, self.positive("detection_data_param.batch_size", param.batch_size),
            difficult=True, seed=draw_order(self.rng) if shuffle else None,
            by_aspect={"random_aspect": 0, "random_mix_aspect": together}.get(shuffle),
            share=solver_share(self.phase),
        )  # fmt: skip
