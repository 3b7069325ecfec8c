"""Which layer reads which values: names that in-place layers use again."""

from helpers.nets import layer_text
from minicaffe.core.flow import Flow, Reader, Value
from minicaffe.proto import caffe_pb2, parse_text


def flow_of(*layers: str) -> Flow:
    return Flow(parse_text("".join(layers), caffe_pb2.NetParameter()))


RESIDUAL = (
    layer_text("data", "Input", "", "data"),
    layer_text("conv", "Convolution", "data", "conv"),
    layer_text("bn", "BatchNorm", "conv", "conv"),
    layer_text("relu", "ReLU", "conv", "conv"),
    layer_text("sum", "Eltwise", "conv data", "sum"),
    layer_text("slice", "Slice", "conv", "a b"),
)


def test_in_place_layers_write_new_values():
    flow = flow_of(*RESIDUAL)
    assert flow.sources == [
        [], [Value(0, 0)], [Value(1, 0)], [Value(2, 0)], [Value(3, 0), Value(0, 0)], [Value(3, 0)]
    ]  # fmt: skip
    assert flow.readers(Value(3, 0)) == [Reader(4, 0), Reader(5, 0)]
    assert flow.last["conv"] == Value(3, 0)


def test_only_reader():
    flow = flow_of(*RESIDUAL)
    assert flow.only_reader(Value(1, 0)) == 2
    assert flow.only_reader(Value(0, 0)) is None  # two layers
    assert flow.only_reader(Value(4, 0)) is None  # none
    twice = flow_of(RESIDUAL[0], layer_text("sum", "Eltwise", "data data", "sum"))
    assert twice.only_reader(Value(0, 0)) is None


def test_outputs_are_what_no_layer_reads():
    assert flow_of(*RESIDUAL).outputs() == [Value(4, 0), Value(5, 0), Value(5, 1)]


def test_before_follows_first_bottoms():
    assert list(flow_of(*RESIDUAL).before(4)) == [3, 2, 1, 0]
    assert list(flow_of(*RESIDUAL).before(4, 1)) == [0]
    assert list(flow_of(*RESIDUAL).before(0)) == []


def test_a_bottom_without_a_source():
    flow = flow_of(layer_text("relu", "ReLU", "data", "relu"))
    assert flow.sources == [[None]] and list(flow.before(0)) == []
