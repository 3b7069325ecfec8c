"""DummyData: tops filled with constants or random numbers, for timing and tests."""

from minicaffe.core.fillers import fill
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.errors import LayerError
from minicaffe.proto import caffe_pb2


@register("DummyData")
class DummyData(Layer):
    """Tops of given shapes, filled by fillers: constant ones once, all others at every forward pass.

    Top i: any shape.  dummy_data_param: shape, one for all tops or one for each (or the older num, channels, height
    and width, also one or one for each); data_filler, none (zeros), one, or one for each top.
    """

    family = "data"
    exact_num_bottom = 0
    capturable = False  # works on the host
    min_top = 1
    in_place = False
    backward_reads = ()

    @classmethod
    def source_shapes(cls, layer_param):
        try:
            return cls(layer_param)._top_shapes(len(layer_param.top))
        except LayerError:  # building the net reports it
            return [None] * len(layer_param.top)

    def setup(self, bottom, top):
        param = self.layer_param.dummy_data_param
        self.shapes = self._top_shapes(len(top))
        none = [caffe_pb2.FillerParameter(type="constant")]
        self.fillers = self._for_each_top("data_filler", list(param.data_filler) or none, len(top))
        for blob, shape, filler in zip(top, self.shapes, self.fillers, strict=True):
            blob.reshape(shape)
            fill(blob, filler, self.rng.generator())

    def _top_shapes(self, count):
        return self._for_each_top("shape", self._read_shapes(self.layer_param.dummy_data_param), count)

    def _read_shapes(self, param):
        legacy = {name: list(getattr(param, name)) for name in ("num", "channels", "height", "width")}
        if not any(legacy.values()):
            return [tuple(shape.dim) for shape in param.shape]
        if len(param.shape):
            raise self.error("dummy_data_param takes shape, or num, channels, height and width, but not both")
        longest = max(len(values) for values in legacy.values())
        columns = [self._for_each_top(name, values, longest) for name, values in legacy.items()]
        return list(zip(*columns, strict=True))

    def _for_each_top(self, name, values, count):
        """Return `count` values; a single given one is repeated."""
        if len(values) not in (1, count):
            raise self.error(
                f"dummy_data_param must hold one {name}, or one for each of {count} tops, got {len(values)}"
            )
        return values * count if len(values) == 1 else values

    def top_shapes(self, bottom_shapes):
        return self.shapes

    def reshape(self, bottom, top):
        """No-op: the shapes depend on the parameters alone, `setup` has set them."""

    def forward_cpu(self, bottom, top):
        for i, (blob, filler) in enumerate(zip(top, self.fillers, strict=True)):
            if filler.type != "constant" or i in self.overwritten_tops:
                fill(blob, filler, self.rng.generator())
