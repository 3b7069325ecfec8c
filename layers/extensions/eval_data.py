"""EvalData: images with the boxes that a detector should find."""

from types import MappingProxyType

from minicaffe.core.registry import register
from minicaffe.data.truth_windows import TruthReader
from minicaffe.layers.shared.base_data import solver_share
from minicaffe.layers.shared.detection_transformer import EvalTransformer
from minicaffe.layers.shared.truth_data import TruthData
from minicaffe.proto import TRAIN


@register("EvalData")
class EvalData(TruthData):
    """The images of a window file in their order, endlessly, and their boxes.

    Tops: images (N, 3, H, W); their boxes (n, 8, 1, 1), rows (image, x1, y1, x2, y2, class, ignored, difficult), in
    pixels of the resized image, x2 and y2 being the last ones, -1 without any; optionally H and W of each (N, 2, 1, 1).

    Images are resized to resize_width and resize_height, or their short side to short_size, where a side that is
    longer than long_size becomes that; then to the next multiples of 32.

    eval_data_param, besides these: source, the file, as of DetectionData; root_folder; batch_size N, 1 unless
    resize_width and resize_height are given.
    transform_param: mean_value and scale.
    Source: Cai and Vasconcelos, Cascade R-CNN, 2018.
    """

    fork = "Cascade R-CNN"
    param_field = "eval_data_param"
    unread_of_transform = MappingProxyType(
        {
            **TruthData.unread_of_transform,
            "resize_param": "write short_size and long_size",
            **dict.fromkeys(("crop_size", "crop_h", "crop_w", "mirror"), "remove it"),
        }
    )
    min_top, max_top = 2, 3

    def setup(self, bottom, top):
        self._gives_sizes = len(top) > 2
        super().setup(bottom, top)

    def make_transformer(self):
        param, common = self.layer_param.eval_data_param, self.layer_param.transform_param
        return EvalTransformer(param, common, self.phase == TRAIN, self.rng, self._gives_sizes)

    def open_reader(self):
        param = self.layer_param.eval_data_param
        batch_size = self.positive("eval_data_param.batch_size", param.batch_size)
        if batch_size > 1 and not (param.resize_width and param.resize_height):  # images of a batch have one size
            raise self.error(f"batch_size must be 1 unless resize_width and resize_height are given, got {batch_size}")
        return TruthReader(
            param.source, param.root_folder, batch_size, difficult=True, share=solver_share(self.phase)
        )  # fmt: skip

    def label_shapes(self, image):
        return [*super().label_shapes(image), *([(image[0], 2, 1, 1)] if self._gives_sizes else [])]
