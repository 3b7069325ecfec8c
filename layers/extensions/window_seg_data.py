"""WindowSegData: windows of images with label maps from files, as DeconvNet reads them."""

from minicaffe.core.registry import register
from minicaffe.data.map_list import MAPS, NOTHING
from minicaffe.data.window_map_list import WindowMapListReader
from minicaffe.errors import DataError
from minicaffe.layers.shared.map_data import MapData
from minicaffe.proto.caffe_pb2 import ImageDataParameter


@register("WindowSegData")
class WindowSegData(MapData):
    """The windows in a text file with lines "image map x1 y1 x2 y2", endlessly, with label maps; paths have no spaces.

    Column x2 and row y2 belong to a window.  Outside of the image pixels are 0, before the mean is subtracted, and
    labels are ignore_label.

    Tops: windows (N, C, H, W), channels in the order blue, green, red, after transform_param; optionally label maps
    (N, 1, H, W), then (N, 1, 1, 2), height and width of what is not padding.
    image_data_param: source, the list; batch_size (1); label_type: PIXEL, the gray values of label maps; or NONE, the
    label is ignore_label (255), whatever the list has; root_folder, the prefix of each path (no slash is added);
    new_height and new_width, the size to which windows are resized, linearly, and their maps, to the nearest pixel;
    is_color (true); shuffle (false; true: a new order in each pass over the list); rand_skip, start at a random entry
    below it; threads (0: one for each core), which decode and transform.
    transform_param: crop_size, or crop_height and crop_width, at random in TRAIN and in the centre in TEST, with
    padding for smaller windows as in ImageSegData; mirror; mean_value; scale.
    Source: Noh, Hong and Han, Learning deconvolution network for semantic segmentation, 2015.
    """

    fork = "DeconvNet"
    param_field = "image_data_param"
    list_reader = WindowMapListReader
    exact_num_top = None
    min_top, max_top = 1, 3

    @staticmethod
    def first_image(source):
        raise DataError(f"window list {source}: windows have other sizes than their images")

    @classmethod
    def map_rules(cls, layer_param):
        return super().map_rules(layer_param)._replace(fill=layer_param.image_data_param.ignore_label)

    def make_transformer(self):
        if self.layer_param.transform_param.HasField("mean_file"):
            raise self.error("mean_file must be absent, as windows have different sizes: write mean_value")
        return super().make_transformer()

    def reading(self):
        param = self.layer_param.image_data_param
        if param.label_type == ImageDataParameter.IMAGE:
            raise self.error("label_type must be PIXEL or NONE, got IMAGE, its default")
        kind = MAPS if param.label_type == ImageDataParameter.PIXEL else NOTHING
        return {"kind": kind, "mode": "NEAREST", "fill": param.ignore_label}

    def threads(self):
        return self.layer_param.image_data_param.threads
