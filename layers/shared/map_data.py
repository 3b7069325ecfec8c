"""The base of layers that read images with label maps."""

from __future__ import annotations

from types import MappingProxyType

from minicaffe.data.image_list import lines_of
from minicaffe.data.map_list import MapListReader
from minicaffe.data.map_transformer import MapRules, MapTransformer
from minicaffe.data.transformer import crop_of
from minicaffe.layers.shared.list_data import ListData
from minicaffe.proto import TRAIN


class MapData(ListData):
    """Base of DenseImageData, ImageSegData and ImageLabelmapData: images in top 0, label maps (N, 1, H, W) in top 1.

    A subclass states `param_field`; `map_rules`, what happens to images and maps; and `reading`, how they are read.
    """

    unread_of_transform = MappingProxyType({
        **ListData.unread_of_transform,
        **dict.fromkeys(("resize_param", "noise_param"), "remove it"),
    })  # fmt: skip
    capturable = False
    list_reader = MapListReader

    @classmethod
    def source_shapes(cls, layer_param):
        batch, rules = getattr(layer_param, cls.param_field).batch_size, cls.map_rules(layer_param)
        channels, *size = cls.image_shape(layer_param)
        size = [cut or (0 if rules.scale_factors else whole) for cut, whole in zip(rules.crop, size)]
        known = batch and all(size)
        image, maps = (batch, channels, *size), (batch, 1, *(length // max(1, rules.label_divisor) for length in size))
        shapes = [image if known else None, maps if known else None, (batch, 1, 1, 2) if batch else None]
        return [*shapes, *[None] * len(layer_param.top)][: len(layer_param.top)]

    @staticmethod
    def first_image(source):
        return next(lines_of(source))[1].split()[0]

    @classmethod
    def map_rules(cls, layer_param) -> MapRules:
        """Return what happens to images and maps; it is used without building the layer, so it raises no error."""
        common = layer_param.transform_param
        return MapRules(crop_of(common), common.mirror)

    def make_transformer(self):
        rules, common = self.map_rules(self.layer_param), self.layer_param.transform_param
        if bool(rules.crop[0]) != bool(rules.crop[1]):
            raise self.error(f"crops need a height and a width, got {rules.crop[0]} and {rules.crop[1]}")
        return MapTransformer(common, rules, self.phase == TRAIN, self.rng)

    def label_shapes(self, image):
        assert isinstance(self.transformer, MapTransformer)
        return [self.transformer.map_shape(image), (image[0], 1, 1, 2)]
