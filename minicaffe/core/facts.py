"""What a layer type states about itself, as data of its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from minicaffe.proto.caffe_pb2 import LayerParameter

Shape = tuple[int, ...]


class Facts:
    """Base of `Layer`: facts about a type, which are read from its class (`registry.facts_of`).

    The defaults are safe for any layer.
    """

    type = ""  #: the prototxt type, set by `register`
    engine = "CAFFE"  #: whose code this is, set by `register`
    precision = "float32"  #: in which it multiplies: "float32" (that is, its dtype) or "bf16"; set by `create_layer`

    # How many bottoms and tops: None where any number will do.
    exact_num_bottom: int | None = None
    min_bottom: int | None = None
    max_bottom: int | None = None
    exact_num_top: int | None = None
    min_top: int | None = None
    max_top: int | None = None
    equal_num_bottom_top = False
    auto_top_blobs = False  #: whether the net adds tops that the prototxt leaves out (losses)
    tops_are_inputs = False  #: whether the tops are the net's inputs (`net.inputs`)

    no_gradient: tuple[int, ...] = ()  #: bottoms without a gradient, by index (-1: the last), such as labels

    in_pairs = False  #: whether top i comes from bottom i alone, and so needs no gradient where that needs none

    learns = True  #: whether its blobs, if it has any, may get a gradient; if not, its tops need none for them

    # In place: where a top is the bottom of its index, see in_place.py.
    in_place = False  #: whether the layer may work in place
    backward_reads: tuple[str, ...] = ("bottom", "top")  #: the blobs whose data backward reads; () for none
    top_serves_as_bottom = False  #: whether in place backward takes the top's data where it reads the bottom's
    reads_signs = False  #: whether backward reads no more of these data than which are above 0
    keeps_signs = False  #: whether the tops are above 0 where the bottoms are, except where the gradient is 0
    passes_through = False  #: whether the top's data equal the bottom's
    exact_gradient_in_place = True  #: False where the gradient in place is the original's, not the formula's

    bf16_bottom = bf16_top = False  #: whether its bottoms and tops are in bfloat16; set by `precision.assign_types`

    fuses_as = ""  #: the type by which it is matched in patterns of fused layers (fusion.py), if not its own
    always_reshape = False  #: whether the tops' shapes depend on more than the bottoms' (on values, on a file)
    capturable = True  #: whether a step through this layer may be captured into a CUDA graph
    collective = False  #: whether its passes wait for those of the same layer at all other ranks
    keeps_views = False  #: whether it may keep views of blobs, or leave values in them as they are
    #: whether forward in TEST gives the same again and changes nothing else; None: if the type is one of this package
    repeatable: bool | None = None

    # For code that handles a NetParameter without building the net: pictures, checks, NetSpec, coordinate maps.
    #: its colour in pictures: weights, pooling, activation, normalization, loss, arrangement or data; "": any other
    family = ""
    keeps_coordinates = False  #: whether spatial position x of a top is position x of the bottoms
    cuts = ""  #: "where given" or "where aligned": top 0 is the part of bottom 0 at the offset of crop_param
    resamples = ""  #: how windows map positions to the top: "down", divided by their stride; "up", multiplied by it
    #: of how many classes the top has a row (sample, class, confidence, xmin, ymin, xmax, ymax) for each object; set by
    #: `setup`; 0: the top has no such rows
    detected_classes = 0
    fork = ""  #: the fork, or the forks, of Caffe that introduced the type; "": Caffe's master, or a script's own type
    param_field = ""  #: the LayerParameter field with the parameters, if it is not named after the type
    more_params: tuple[str, ...] = ()  #: further LayerParameter fields of messages that layers of the type read
    #: fields of its transform_param that have no effect, and what to do instead
    unread_of_transform: Mapping[str, str] = MappingProxyType({})

    # -- from a LayerParameter alone ----------------------------------------------------------------------------------

    @staticmethod
    def describe(layer_param: LayerParameter) -> str:
        """A short description beside the type, such as "64 3×3 /2 pad 1", for pictures and summaries."""
        return ""

    @classmethod
    def may_have_gradient(cls, bottom: int, count: int) -> bool:
        """Whether a bottom, by index, of `count` of them may have a gradient."""
        return not {bottom, bottom - count}.intersection(cls.no_gradient)

    @classmethod
    def source_shapes(cls, layer_param: LayerParameter) -> Sequence[Shape | None] | None:
        """Of a layer whose `setup` opens files, imports modules or fills its tops: their shapes, None for unknown ones.

        They come from the parameters and the first record of the source.  None for all others: a shape is what
        `reshape` gives after `setup`.
        """
        return None
