"""WindowData: regions of images, for the training of R-CNN."""

from minicaffe.core.registry import register
from minicaffe.data.shuffle import draw_seed
from minicaffe.data.transformer import BatchTransformer
from minicaffe.data.windows import Warper, WindowReader
from minicaffe.layers.shared.base_data import BaseData


@register("WindowData")
class WindowData(BaseData):
    """Random windows of a window file: cut out, warped to a square, normalised.

    Tops: images (N, C, crop_size, crop_size), labels (N,): the class of foreground windows, 0 for background.
    window_data_param: source; root_folder; batch_size N; fg_threshold (0.5), the least overlap of an object, and
    bg_threshold (0.5), below which a window is background; fg_fraction (0.25), the share of objects in a batch;
    context_pad (0), pixels of context; crop_mode, "warp" or "square"; cache_images (false).
    transform_param: crop_size, mirror, scale, mean_file, mean_value; the first four are read from window_data_param
    where transform_param has none.
    Source: Girshick, Donahue, Darrell and Malik, 2014.
    """

    param_field = "window_data_param"
    unread_of_transform = {
        **BaseData.unread_of_transform,
        **dict.fromkeys(("force_color", "force_gray", "noise_param"), "remove it"),
        **dict.fromkeys(("crop_h", "crop_w", "resize_param"), "write crop_size"),
    }
    exact_num_top = 2

    @staticmethod
    def image_shape(layer_param):
        size = layer_param.window_data_param.crop_size
        return 3, size, size

    def load_common_state(self, state):
        """Restore nothing: each rank draws windows of its own."""

    def make_transformer(self):
        param, common = self.layer_param.window_data_param, self.layer_param.transform_param
        for name in ("crop_size", "mirror", "scale", "mean_file"):
            if param.HasField(name) and not common.HasField(name):
                setattr(common, name, getattr(param, name))
        self.mean = super().make_transformer().mean
        return BatchTransformer(type(common)(), False, self.rng)  # the reader normalises, since padding stays 0

    def open_reader(self):
        param, common = self.layer_param.window_data_param, self.layer_param.transform_param
        crop_size = self.positive("crop_size", common.crop_size)
        batch_size = self.positive("window_data_param.batch_size", param.batch_size)
        if param.crop_mode not in ("warp", "square"):
            raise self.error(f'crop_mode must be "warp" or "square", got "{param.crop_mode}"')
        if not 0 <= param.fg_fraction <= 1:
            raise self.error(f"fg_fraction must be between 0 and 1, got {param.fg_fraction:g}")
        if 2 * param.context_pad >= crop_size:
            raise self.error(f"context_pad must be less than half of crop_size {crop_size}, got {param.context_pad}")
        warper = Warper(crop_size, param.context_pad, param.crop_mode == "square", self.mean, common.scale)
        return WindowReader(
            param, param.source, batch_size, warper, common.mirror, draw_seed(self.rng), param.cache_images
        )
