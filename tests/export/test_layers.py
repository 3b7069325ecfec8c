"""Every layer type's ONNX form, on all cases of the layer tests and of the original, in TEST."""

import numpy as np
import pytest

from helpers import golden
from helpers.layer_cases import all_cases, feeds, net_text
from helpers.nets import layer_text, net_from_text
from helpers.trained import randomize
from minicaffe import TEST
from minicaffe.errors import ExportError
from minicaffe.testing import NUMPY

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
pytest.importorskip("onnxruntime", reason="needs the packages onnx and onnxruntime")
from helpers.onnx_runs import difference, difference_of, export_net, longer  # noqa: E402
from minicaffe.export.onnx.conversion import converter  # noqa: E402
from minicaffe.export.onnx.model import to_model  # noqa: E402

TOLERANCE = 2e-6  #: relative to the largest value: sums have another order


def exportable(*types: str) -> bool:
    return all(kind == "Input" or converter(kind) for kind in types)


def has_outputs(case) -> bool:
    """Whether the case computes what ONNX can express: Silence does not, Dropout may draw, ROIAlign has two forms."""
    ms_cnn = case.layer.type == "ROIAlign" and case.layer.layer_param.HasField("roi_pooling_param")
    return bool(case.num_top) and "sample_weights_test" not in case.text and not ms_cnn


CASES = [(name, case) for name, case in all_cases() if exportable(case.layer.type) and has_outputs(case)]
GOLDEN = [path for path in golden.LAYERS if exportable(*golden.layer_types(path))]


@pytest.fixture(autouse=True)
def on_numpy():
    with NUMPY.chosen():
        yield


def check(net, inputs):
    """Compare an export with the net, also at another batch size, which only the net's own shapes may forbid."""
    exported = export_net(net)
    assert not [reason for reason in exported.fixed.values() if reason.endswith("depends on it")]
    assert difference_of(exported, inputs) < TOLERANCE
    assert difference_of(exported, longer(exported, inputs)) < TOLERANCE


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES])
def test_case(case):
    net = net_from_text(net_text(case), TEST)
    randomize(net)
    check(net, feeds(*(np.reshape(values, shape) for values, shape in zip(case.arrays(), case.shapes))))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_case(path):
    case = golden.read(path)
    net = net_from_text(str(case["prototxt"]), TEST)
    for layer, index, array in golden.params(case, "param"):
        net.params[layer][index].data[...] = array
    check(net, {blob: array.astype(np.float32) for blob, array in golden.values(case, "in")})


# -- beyond the cases --------------------------------------------------------------------------------------------------


def one_layer(kind, parameters, *shapes, tops=1):
    """A net of one layer, and numbers for its inputs from 0 to 4, many of them equal."""
    names = [f"x{i}" for i in range(len(shapes))]
    dims = ("".join(f"dim: {length} " for length in shape) for shape in shapes)
    inputs = (
        layer_text(name, "Input", "", name, f"input_param {{ shape {{ {dim}}} }}") for name, dim in zip(names, dims)
    )
    layer = layer_text("layer", kind, " ".join(names), " ".join(f"y{i}" for i in range(tops)), parameters)
    rng = np.random.default_rng(len(parameters))
    return net_from_text("".join(inputs) + layer, TEST), feeds(*(rng.integers(0, 5, shape) for shape in shapes))


WINDOWS = [
    "kernel_size: 1 stride: 3",
    "kernel_size: 2 stride: 4 pad: 1",
    "kernel_size: 4 stride: 3",
    "kernel_size: 3 stride: 2 pad: 2",
    "kernel_size: 2 stride: 3 round_mode: FLOOR",
]


@pytest.mark.parametrize("size", [(7, 7), (6, 9), (4, 5)])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("method", "tops"), [("MAX", 2), ("AVE", 1), ("STOCHASTIC", 1)])
def test_windows_over_the_border_and_outside(method, tops, window, size):
    if method == "STOCHASTIC":
        window = window.partition(" pad")[0]
    check(*one_layer("Pooling", f"pooling_param {{ pool: {method} {window} }}", (2, 3, *size), tops=tops))


@pytest.mark.parametrize(
    ("kind", "parameters", "shape"),
    [
        ("Reshape", "reshape_param { shape { dim: 1 dim: -1 } axis: 0 num_axes: 0 }", (2, 3, 4)),
        ("Reshape", "reshape_param { shape { dim: -1 } axis: 0 num_axes: 2 }", (2, 3, 4)),
        ("Reshape", "reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } }", (3, 6, 4, 5)),
        ("Reshape", "reshape_param { shape { dim: 2 dim: 1 } axis: 1 num_axes: 1 }", (2, 2, 4)),
        ("Reshape", "reshape_param { shape { dim: 1 } axis: -1 }", (2, 3)),
        ("Reshape", "reshape_param { shape { dim: -1 dim: 10 } }", (3, 20)),
        ("Reshape", "reshape_param { shape { dim: 2 dim: -1 } }", (4, 6)),
        ("Flatten", "flatten_param { axis: 0 end_axis: 1 }", (2, 3, 4)),
        ("Slice", "slice_param { axis: 0 }", (4, 3)),
        ("Reduction", "reduction_param { operation: MEAN axis: 0 coeff: 3 }", (4, 3)),
        ("Softmax", "softmax_param { axis: 0 }", (4, 3)),
        ("ArgMax", "argmax_param { top_k: 3 out_max_val: true }", (2, 3, 4, 2)),
        ("ArgMax", "argmax_param { axis: -2 top_k: 3 }", (2, 3, 4, 2)),
        ("Convolution", "convolution_param { num_output: 4 kernel_size: 2 axis: 2 group: 2 }", (2, 3, 4, 5, 4)),
        ("Deconvolution", "convolution_param { num_output: 4 axis: 1 }", (2, 3)),
        ("InnerProduct", "inner_product_param { num_output: 4 axis: -2 transpose: true }", (2, 3, 4, 5)),
        ("MVN", "mvn_param { normalize_variance: false }", (2, 3)),
    ],
)
def test_the_batch_stays_free(kind, parameters, shape):
    net, inputs = one_layer(kind, parameters, shape)
    randomize(net)
    assert not to_model(net).fixed
    check(net, inputs)


@pytest.mark.parametrize(
    ("kind", "parameters", "shape"),
    [
        ("ArgMax", "argmax_param { axis: 0 top_k: 2 }", (4, 6)),
        ("Im2col", "convolution_param { kernel_size: 2 axis: 0 }", (2, 3, 4)),
    ],
)
def test_the_batch_is_fixed_where_the_layer_works_along_it(kind, parameters, shape):
    net, inputs = one_layer(kind, parameters, shape)
    assert difference(net, inputs) < TOLERANCE
    assert list(to_model(net).fixed) == [("x0", 0)]


def test_batch_norm_without_training():
    net, inputs = one_layer("BatchNorm", "", (2, 3, 4))
    net.params["layer"][0].data[...] = net.params["layer"][1].data[...] = 5
    assert difference(net, inputs) < TOLERANCE


def test_shared_parameters_are_written_once():
    text = "".join(layer_text(name, "InnerProduct", "x", name, 'param { name: "w" } param { name: "b" } '
                              "inner_product_param { num_output: 2 }") for name in ("one", "other"))  # fmt: skip
    net = net_from_text(layer_text("x", "Input", "", "x", "input_param { shape { dim: 1 dim: 3 } }") + text, TEST)
    assert [tensor.name for tensor in to_model(net).model.graph.initializer] == ["one.0", "one.1"]


def test_dropout_that_draws_numbers_in_test_is_refused():
    net, _ = one_layer("Dropout", "dropout_param { sample_weights_test: true }", (2, 3))
    with pytest.raises(ExportError, match="Dropout layer 'layer': it draws random numbers in TEST"):
        to_model(net)


def test_dummy_data_are_constants_or_inputs():
    data = layer_text("data", "DummyData", "", "x", "dummy_data_param { shape { dim: 2 } data_filler { type: '%s' } }")
    for filler, inputs in (("constant", []), ("gaussian", ["x"])):
        model = to_model(net_from_text(data % filler + layer_text("relu", "ReLU", "x", "y"), TEST)).model
        assert [each.name for each in model.graph.input] == inputs


def test_an_im2col_whose_kernels_would_be_too_large():
    net = net_from_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 100 dim: 100 } } }'
        + layer_text("im2col", "Im2col", "x", "y", "convolution_param { kernel_size: 100 }"),
        TEST,
    )
    with pytest.raises(ExportError, match="Im2col layer 'im2col': one-hot kernels of 10000 places for 1 channels"):
        to_model(net)


def test_ms_cnns_roi_align_is_refused():
    rois = "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.5 }"
    net, _ = one_layer("ROIAlign", rois, (1, 2, 6, 6), (3, 5))
    with pytest.raises(ExportError, match="ROIAlign layer 'layer': with roi_pooling_param it has no ONNX form"):
        to_model(net)
