"""ImgReader: one picture from a file."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.data.image import read_image
from minicaffe.data.transformer import BatchTransformer
from minicaffe.errors import DataError
from minicaffe.proto import TRAIN


@register("ImgReader")
class ImgReader(Layer):
    """y = the picture, which is read once, after transform_param, in each of num samples.

    No bottom.  top: (num, C, H, W), channels in the order blue, green, red.

    reader_param: file; num (1).
    Source: Ilg et al., FlowNet 2.0, 2017.
    """

    fork = "FlowNet 2.0"
    param_field = "reader_param"
    more_params = ("transform_param",)
    unread_of_transform = dict.fromkeys(BatchTransformer.not_applied, "AnnotatedData applies it")
    family = "data"
    exact_num_bottom = 0
    exact_num_top = 1
    in_place = False
    backward_reads = ()

    @classmethod
    def source_shapes(cls, layer_param):
        return [None] * len(layer_param.top)

    def setup(self, bottom, top):
        param = self.layer_param.reader_param
        if not param.file:
            raise self.error("reader_param must name a file")
        if param.num < 1:
            raise self.error("num must be above 0")
        try:
            transformer = BatchTransformer(self.layer_param.transform_param, self.phase == TRAIN, self.rng)
            color = True if transformer.color is None else transformer.color
            picture = read_image(param.file, color)[None]
            self.picture = np.empty((1, *transformer.output_shape(picture.shape[1:])), self.dtype)
            transformer.transform(picture, self.picture, name=lambda _: param.file)
        except DataError as error:
            raise DataError(f"ImgReader layer '{self.name}': {error}") from error

    def top_shapes(self, bottom_shapes):
        return [(self.layer_param.reader_param.num, *self.picture.shape[1:])]

    def forward_cpu(self, bottom, top):
        top[0].data[...] = self.picture
