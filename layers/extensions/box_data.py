"""BoxData: images with boxes for YOLO v1."""

from minicaffe.core.registry import register
from minicaffe.data.cell_boxes import CellBoxDecoder, CellBoxTransformer
from minicaffe.layers.data import Data
from minicaffe.proto import TRAIN


@register("BoxData")
class BoxData(Data):
    """The records of an LMDB or LevelDB of images with boxes, endlessly; the boxes are those of S x S cells.

    Tops: images (N, C, H, W), after transform_param; optionally, for each S, labels (N, 7 S S): of each cell whether
    its box is difficult, whether there is one, its class, -1 without one; then for each cell the centre and size of its
    box, in fractions of the image.  A box belongs to the cell that holds its centre; the last of several counts.
    In TRAIN a random part of each image, smaller by up to 30 % in width and height, which holds the centre of a box, is
    enlarged to the size of the image.

    Records are Datums with an image in data, and in float_data for each box class, difficult, x, y, width, height.
    data_param: as for Data; side, for each label (one of 7 cells).
    transform_param: mean, scale, noise_param, force_color and force_gray.
    Source: Redmon et al., You only look once, 2016.
    """

    fork = "YOLO"
    max_top = None
    capturable = False

    @classmethod
    def source_shapes(cls, layer_param):
        shapes, param = super().source_shapes(layer_param), layer_param.data_param
        labels = [(param.batch_size, 7 * side * side) if param.batch_size else None for side in param.side or [7]]
        return [*shapes[:1], *labels, *[None] * len(layer_param.top)][: len(layer_param.top)]

    def setup(self, bottom, top):
        self.sides = list(self.layer_param.data_param.side) or [7]
        if len(top) > 1 and (len(top) - 1 != len(self.sides) or 0 in self.sides):
            raise self.error(f"side must be given, above 0, for each of {len(top) - 1} labels, got {self.sides}")
        super().setup(bottom, top)

    def make_transformer(self):
        return CellBoxTransformer(self.layer_param.transform_param, self.sides, self.phase == TRAIN, self.rng)

    def make_decoder(self, source, color):
        return CellBoxDecoder(source, color)

    def label_shapes(self, image):
        return [(image[0], 7 * side * side) for side in self.sides]
