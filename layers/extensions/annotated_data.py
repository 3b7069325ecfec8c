"""AnnotatedData: images with boxes from a database, for training detectors."""

import logging
import os
from types import MappingProxyType

from minicaffe.core.registry import register
from minicaffe.data.annotated import AnnotatedDecoder
from minicaffe.data.annotated_transformer import AnnotatedTransformer
from minicaffe.data.yolo_labels import ROWS
from minicaffe.layers.data import Data
from minicaffe.proto import TRAIN, caffe_pb2
from minicaffe.proto.further import all_values

log = logging.getLogger("minicaffe.data")


@register("AnnotatedData")
class AnnotatedData(Data):
    """The records of an LMDB or LevelDB of AnnotatedDatum, endlessly: images, and the boxes in them.

    Tops: images (N, C, H, W), after transform_param; optionally labels (1, 1, M, 8), one row for each of the M boxes of
    the batch: number of the image in the batch, label of the group, number of the instance, xmin, ymin, xmax, ymax as
    fractions of the image, difficult (0 or 1).  A batch without boxes has one row of -1.  Records without a type of
    annotation have the labels of their Datums, (N, 1, 1, 1).
    data_param: as for Data.
    annotated_data_param: batch_sampler, repeated, random parts of an image (none: the whole image); anno_type (BBOX if
    the first record has boxes; given: it must); label_map_file, which is not read.
    annotated_data_param, of the ports of YOLO: with yolo_data_type 1 the labels are (N, 1, 300, 5), rows (label - 1, x,
    y, width, height) of the boxes of each image, then rows of 0; train_diffcult true (false: without difficult boxes);
    yolo_data_jitter 0.3, with yolo_data_type 1 or if it is given, without batch_sampler: of 5 images 1 stays whole, 1
    loses up to half of this share of its width and of its height, 3 up to all of it.
    transform_param, in this order: geometry_param, distort_param, expand_param, batch_sampler, resize_param,
    noise_param, crop, mirror, mean and scale.  Boxes are carried along; those that emit_constraint rejects, or that
    have no area in the result, are dropped.  Images of different sizes need resize_param or a crop; FIT_SMALL_SIZE
    needs a batch of 1.  Of several resize_param one is drawn for each batch, with probabilities in the ratio of their
    prob, so that the size of the images changes from batch to batch (the ports of YOLO).
    Source: Liu et al., SSD: Single Shot MultiBox Detector, 2016, sections 2.2 and 3.6; Redmon and Farhadi, YOLO9000,
    2017.
    """

    fork = "SSD; YOLO"
    more_params = ("transform_param", "annotated_data_param")
    unread_of_transform = MappingProxyType({})
    capturable = False  # the number of boxes changes from batch to batch

    @classmethod
    def source_shapes(cls, layer_param):
        shapes = super().source_shapes(layer_param)
        return [*shapes[:1], *[None] * len(shapes[1:])]

    def setup(self, bottom, top):
        sizes = all_values(self.layer_param.transform_param, "resize_param")
        batch_size, small = self.layer_param.data_param.batch_size, caffe_pb2.ResizeParameter.FIT_SMALL_SIZE
        if batch_size != 1 and any(each.resize_mode == small for each in sizes):
            raise self.error(f"FIT_SMALL_SIZE gives images of different sizes: batch_size must be 1, got {batch_size}")
        path = self.layer_param.annotated_data_param.label_map_file
        if path and not os.path.exists(path):
            log.warning(
                "AnnotatedData layer '%s': there is no label_map_file %s; it is not needed here", self.name, path
            )
        super().setup(bottom, top)

    def make_transformer(self):
        common, annotated = self.layer_param.transform_param, self.layer_param.annotated_data_param
        return AnnotatedTransformer(common, annotated, self.phase == TRAIN, self.rng)

    def make_decoder(self, source, color):
        has_type = self.layer_param.annotated_data_param.HasField("anno_type")
        self._decoder = AnnotatedDecoder(source, color, has_type)
        return self._decoder

    def label_shapes(self, image):
        if self._decoder.with_boxes and self.layer_param.annotated_data_param.yolo_data_type == 1:
            return [(self.reader.batch_size, 1, ROWS, 5)]
        return [(1, 1, 1, 8) if self._decoder.with_boxes else (self.reader.batch_size, 1, 1, 1)]
