"""CustomData: pictures, flow and masks from a database, each in a top of its own."""

import logging

from minicaffe.core.registry import register
from minicaffe.data.flow_records import Selection, SlicedReader, SlicedTransformer, Slices
from minicaffe.data.shuffle import draw_order
from minicaffe.layers.shared.base_data import BaseData, solver_share
from minicaffe.proto.caffe_pb2 import DataParameter, TransformationParameter

log = logging.getLogger("minicaffe.data")


@register("CustomData")
class CustomData(BaseData):
    """The records of an LMDB, endlessly: the channels of each, cut at slice_point, are the tops.

    Tops: (N, c, H, W), one more than there are values of slice_point; optionally the labels, (N,).
    data_param: source; batch_size; backend; slice_point, the channels at which tops but the first begin; encoding, of
    each slice: UINT8, UINT16FLOW (two bytes, the flow times 32; 32767 is unknown, nan), BOOL1 (bits);
    preselection_file, a list of numbers, one for each record, of which those of preselection_label are read;
    range_start (0) and range_end (-1: the last), of these; rand_permute (false; true: in the order of
    rand_permute_seed, the same in each pass; if that is 0, a new order in each pass); rand_permute_order; scale (1),
    and mean_file or subtract, one value for each channel; prefetch (4), batches read ahead.
    Source: Dosovitskiy et al., FlowNet, 2015.
    """

    fork = "FlowNet 2.0"
    param_field = "data_param"
    more_params = ()
    unread_of_transform = {}
    max_top = None

    @classmethod
    def source_shapes(cls, layer_param):
        return [None] * len(layer_param.top)

    def setup(self, bottom, top):
        param = self.layer_param.data_param
        self.slices = Slices(tuple(param.slice_point), tuple(param.encoding))
        missing = len(self.slices.points) + 1 - len(top)
        if missing not in (0, -1):
            raise self.error(f"takes a top for each of {len(self.slices.points) + 1} slices and one, got {len(top)}")
        if len(param.encoding) > len(self.slices.points) + 1:
            raise self.error(f"encoding must be given at most once for each slice, got {len(param.encoding)}")
        super().setup(bottom, top)
        with self.named():
            (count, channels, *size), *labels = self._shapes
            parts = [(count, part.stop - part.start, *size) for part in self.slices.of(channels)]
        self._shapes = [*parts, *labels]

    def make_transformer(self):
        param = self.layer_param.data_param
        common = TransformationParameter(scale=param.scale, mean_value=param.subtract)
        if param.HasField("mean_file"):
            common.mean_file = param.mean_file
        return SlicedTransformer(common, self.slices, self.rng)

    def open_reader(self):
        param = self.layer_param.data_param
        batch_size = self.positive("data_param.batch_size", param.batch_size)
        seed = param.rand_permute_seed if param.rand_permute else 0
        order = draw_order(self.rng) if param.rand_permute and not seed else None
        early = order is not None or param.rand_permute_order == DataParameter.FIRST_RANGE_THEN_PERMUTE
        bounds = param.range_start, param.range_end
        selection = Selection(param.preselection_file, param.preselection_label, *bounds, seed, early)
        return SlicedReader(
            param.source, param.backend, batch_size, self.slices, selection, order, solver_share(self.phase)
        )

    def prefetch_depth(self):
        return self.positive("data_param.prefetch", self.layer_param.data_param.prefetch)
