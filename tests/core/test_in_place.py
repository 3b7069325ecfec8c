"""In-place layers: errors, copies kept for backward passes, and gradients, which must not depend on blob names."""

import numpy as np
import pytest

from helpers.engines import on
from helpers.nets import layer_text as layer
from helpers.nets import net_from_text
from minicaffe.core.layer import Layer
from minicaffe.core.registry import create_layer, layer_class, layer_type_list
from minicaffe.errors import LayerError
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.testing import CUDA, NUMPY, ONEDNN

INPUT = "layer { name: 'in' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 4 dim: 4 dim: 4 } } }"
SHAPE = (2, 4, 4, 4)


def build(*layers, phase=0, force=True, dtype=np.float32):
    text = f"force_backward: {str(force).lower()} {INPUT} {' '.join(layers)}"
    return net_from_text(text, phase, dtype=dtype)


def kept(net):
    """Return the indices of the blobs that each layer copies: {layer: (bottoms, tops)}."""
    found = {name: layer.kept_blobs for name, layer in zip(net.layer_names, net.layers)}
    return {name: (sorted(blobs.bottoms), sorted(blobs.tops)) for name, blobs in found.items() if blobs}


# -- declarations ------------------------------------------------------------------------------------------------------

CLASSES = sorted(
    {layer_class(kind, engine) for kind in layer_type_list() for engine in ("CAFFE", "ONEDNN", "CUDNN")},
    key=lambda cls: (cls.type, cls.engine),
)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.type}-{cls.engine}")
@pytest.mark.parametrize("name", ["in_place", "backward_reads"])
def test_every_layer_makes_its_statements(cls, name):
    if cls.__module__.startswith("minicaffe.layers."):
        assert next(base for base in cls.__mro__ if name in vars(base)) is not Layer


def test_a_layer_that_states_nothing_may_not_work_in_place():
    assert not Layer.in_place
    assert set(Layer.backward_reads) == {"bottom", "top"}


# -- errors ------------------------------------------------------------------------------------------------------------

CANNOT = {
    "Pooling": "pooling_param { kernel_size: 3 pad: 1 }",
    "Convolution": "convolution_param { num_output: 4 kernel_size: 1 }",
    "Deconvolution": "convolution_param { num_output: 4 kernel_size: 1 }",
    "ConvolutionDepthwise": "convolution_param { num_output: 4 kernel_size: 1 }",
    "InnerProduct": "inner_product_param { num_output: 4 }",
    "Im2col": "convolution_param { kernel_size: 1 }",
    "SPP": "spp_param { pyramid_height: 1 }",
    "ArgMax": "argmax_param { axis: 1 }",
    "Tile": "tile_param { tiles: 1 }",
    "Interp": "interp_param { zoom_factor: 1 }",
    "Reduction": "reduction_param { axis: 1 }",
    "AbsVal": "",
    "Flatten": "",
    "Reshape": "reshape_param { shape { dim: 0 dim: -1 } }",
    "Split": "",
    "Slice": "",
    "Concat": "",
    "Permute": "permute_param { order: 0 }",
    "ShuffleChannel": "shuffle_channel_param { group: 2 }",
}


@pytest.mark.parametrize("phase", [0, 1])
@on(NUMPY, ONEDNN)
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.layers(kind)) for kind in CANNOT])
def test_layers_that_cannot_work_in_place_are_refused(kind, phase, engine):
    sentence = f"^{kind} layer 'l': cannot work in place on blob 'x': give its top another name than its bottom$"
    with pytest.raises(LayerError, match=sentence):
        build(layer("l", kind, "x", "x", CANNOT[kind]), phase=phase, force=False)


def test_another_bottom_makes_no_difference():
    for kind in ("Eltwise", "Concat", "Crop"):
        with pytest.raises(LayerError, match="cannot work in place on blob 'a'"):
            build(layer("a", "ReLU", "x", "a"), layer("b", "ReLU", "x", "b"), layer("l", kind, "a b", "a"))


FLAT = [layer("relu", "ReLU", "x", "y"), layer("flat", "Flatten", "y", "f")]
OTHER = layer("other", "Power", "y", "z", "power_param { scale: 2 }")
CHANGE = layer("change", "Power", "f", "f", "power_param { shift: 1 }")


def test_a_blob_that_is_read_later_under_another_name_is_not_changed(engine):
    sentence = (
        "^Power layer 'change': cannot work in place on blob 'f', the memory of which layer 'other' reads as "
        "'y_relu_0_split_1': give its top another name than its bottom$"
    )
    with pytest.raises(LayerError, match=sentence):
        build(*FLAT, CHANGE, OTHER, phase=1, force=False)
    net = build(*FLAT, OTHER, CHANGE, phase=1, force=False)  # OTHER reads the blob before CHANGE
    x = np.ones(SHAPE, np.float32)
    out = net.forward(x=x)
    np.testing.assert_array_equal(out["z"], 2 * x)
    np.testing.assert_array_equal(out["f"], np.full((2, 64), 2))


def test_outputs_are_not_changed_through_other_blobs():
    split = layer("split", "Split", "x", "a b")
    with pytest.raises(LayerError, match="'l': cannot work in place on blob 'a', the memory of which output 'b'"):
        build(split, layer("l", "Sigmoid", "a", "a"))


def test_a_layer_does_not_change_its_own_other_bottom():
    split = layer("split", "Split", "x", "a b")
    with pytest.raises(LayerError, match="'l': cannot work in place on blob 'a', the memory of which its bottom 'b'"):
        build(split, layer("l", "Scale", "a b", "a", "scale_param { axis: 0 }"))


def test_learned_values_are_not_changed():
    parameter = layer("p", "Parameter", "", "w", "parameter_param { shape { dim: 4 } }")
    with pytest.raises(LayerError, match="blob 'w', the memory of which holds the parameter of layer 'p'"):
        build(parameter, layer("l", "Exp", "w", "w"))
    build(parameter, layer("l", "Dropout", "w", "w"), phase=1)  # in TEST, Dropout changes nothing


def test_a_loss_weight_is_not_overwritten():
    first, lost = layer("a", "Sigmoid", "x", "y"), layer("l", "ReLU", "y", "y", "loss_weight: 2")
    with pytest.raises(LayerError, match="'l': cannot work in place on blob 'y', the diff of which holds the loss_"):
        build(first, lost)
    flat = layer("f", "Flatten", "y", "f", "loss_weight: 2")
    with pytest.raises(LayerError, match="'l': cannot work in place on blob 'y'.* the loss_weight of blob 'f'"):
        build(first, layer("l", "ReLU", "y", "y"), flat)
    build(lost.replace('"y"', '"x"'), phase=1, force=False)  # without a backward pass nothing is lost


# -- copies ------------------------------------------------------------------------------------------------------------


def test_only_what_is_overwritten_is_kept():
    sigmoid, scale = layer("a", "Sigmoid", "x", "y"), layer("b", "Scale", "y", "y")
    assert kept(build(sigmoid, scale)) == {"a": ([], [0]), "b": ([0], [])}
    assert kept(build(sigmoid, layer("b", "Scale", "y", "z"))) == {}
    assert kept(build(sigmoid, layer("b", "Dropout", "y", "y"), phase=1)) == {}  # Dropout changes nothing in TEST


def test_nets_without_a_backward_pass_keep_nothing():
    layers = layer("a", "Sigmoid", "x", "y"), layer("b", "Scale", "y", "y"), layer("c", "LRN", "y", "y")
    assert kept(build(*layers, phase=1, force=False)) == {}
    assert set(kept(build(*layers, phase=1))) == {"a", "b", "c"}


def test_dropout_keeps_the_signs_that_relu_reads():
    ip = layer("ip", "InnerProduct", "x", "y", "inner_product_param { num_output: 4 }")
    layers = ip, layer("relu", "ReLU", "y", "y"), layer("drop", "Dropout", "y", "y")
    assert kept(build(*layers)) == {}
    scale = layer("scale", "Scale", "y", "y")
    assert kept(build(*layers, scale)) == {"relu": ([], [0]), "scale": ([0], [])}
    assert kept(build(ip, layer("elu", "ELU", "y", "y"), layer("drop", "Dropout", "y", "y"))) == {"elu": ([], [0])}


def test_negative_slopes_keep_their_input():
    slope = layer("l", "ReLU", "x", "x", "relu_param { negative_slope: -0.5 }")
    assert kept(build(layer("id", "Power", "x", "x"), slope)) == {"l": ([0], [])}


def test_memory_that_is_reached_by_two_names():
    """The memory of a layer's bottom is overwritten through the top of a Flatten that shares it."""
    conv = layer("conv", "Convolution", "y", "z", "convolution_param { num_output: 1 kernel_size: 1 }")
    assert kept(build(FLAT[0], FLAT[1], conv, CHANGE)) == {"conv": ([0], [])}


@pytest.mark.layers("Exp")
def test_constants_of_dummy_data_come_back(engine):
    data = layer("data", "DummyData", "", "y", "dummy_data_param { shape { dim: 3 } data_filler { value: 2 } }")
    net = build(data, layer("l", "Exp", "y", "y"))
    for _ in range(3):
        np.testing.assert_allclose(net.forward(x=np.zeros(SHAPE))["y"], np.full(3, np.exp(2)), rtol=1e-5)


def test_probabilities_of_a_loss_may_be_changed(engine):
    more = "loss_weight: 1 loss_weight: 0"
    labels = layer("labels", "DummyData", "", "label", "dummy_data_param { shape { dim: 2 dim: 4 dim: 4 } }")
    loss = layer("loss", "SoftmaxWithLoss", "x label", "loss p", more)
    diffs = []
    for top in "pq":
        net = build(labels, loss, layer("l", "Scale", "p", top, "scale_param { filler { value: 5 } }"))
        net.blobs["x"].data[...] = np.random.default_rng(0).standard_normal(SHAPE)
        net.forward()
        net.blobs[top].diff[...] = 0
        net.backward()
        diffs.append(net.blobs["x"].diff.copy())
    np.testing.assert_allclose(*diffs, rtol=1e-6)
    assert diffs[0].any()


# -- gradients ---------------------------------------------------------------------------------------------------------

FIRST = {
    "Convolution": "convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: 'gaussian' } }",
    "Pooling": "pooling_param { kernel_size: 3 pad: 1 }",
    "Eltwise": "eltwise_param { operation: PROD stable_prod_grad: false }",
    "Concat": "",
}
IN_PLACE = {
    "BatchNorm": "",
    "Bias": "bias_param { filler { value: -0.4 } }",
    "Dropout": "",
    "ELU": "",
    "Exp": "exp_param { scale: 0.3 }",
    "LRN": "",
    "MVN": "",
    "Normalize": "",
    "PReLU": "",
    "ReLU": "relu_param { negative_slope: 0.1 }",
    "ReLU6": "",
    "Scale": "scale_param { bias_term: true filler { value: -1.5 } bias_filler { value: 0.3 } }",
    "Sigmoid": "",
    "Softmax": "",
    "Swish": "",
    "TanH": "",
}


def random_net(seed):
    """Return (type, parameters) of a first layer and some that can work in place; `wired` gives them blob names."""
    rng = np.random.default_rng(seed)
    first = rng.choice([*FIRST, *IN_PLACE])
    layers = [(first, {**FIRST, **IN_PLACE}[first])]
    for _ in range(rng.integers(1, 6)):
        kind = str(rng.choice(list(IN_PLACE)))
        layers.append((kind, IN_PLACE[kind]))
    if seed % 3 == 0:  # layers that engines fuse, before or after the others
        chain = [(kind, {**FIRST, **IN_PLACE}[kind]) for kind in ("Convolution", "BatchNorm", "Scale")]
        chain += [("ReLU", "")] * int(rng.integers(2))
        return chain + layers[1:] if seed % 2 else layers + chain[1:]
    return layers


def wired(layers, in_place):
    (kind, more), *rest = layers
    bottom = "x x" if kind == "Eltwise" else "x"
    yield layer("l0", kind, bottom, "t0", more)
    top = "t0"
    for i, (kind, more) in enumerate(rest, 1):
        bottom, top = top, top if in_place else f"t{i}"
        yield layer(f"l{i}", kind, bottom, top, more)
    yield layer("last", "Convolution", top, "out", FIRST["Convolution"])


def run(net, seed, one_by_one=False):
    """Run forward and backward with two batch sizes; return output and gradients of the second."""
    for index, each in enumerate(net.layers):
        each.rng.set_state(each.rng.get_state() | {"key": [index, seed], "counter": [0] * 4})
    rng = np.random.default_rng(seed)
    for name, blobs in net.params.items():
        for blob in blobs:
            values = 0.5 * rng.standard_normal(blob.shape) - 0.3
            blob.data[...] = np.abs(values) + 0.1 if net.layer_dict[name].type == "BatchNorm" else values
    for batch in (3, 2):
        net.blobs["x"].reshape(batch, *SHAPE[1:])
        net.reshape()
        net.clear_param_diffs()
        out = net.forward(x=rng.standard_normal((batch, *SHAPE[1:])))["out"].copy()
        net.blobs["out"].diff[...] = rng.standard_normal(out.shape)
        if one_by_one:
            for name in reversed(net.layer_names):
                net.backward(start=name, end=name)
        else:
            net.backward()
    return [out, net.blobs["x"].diff.copy(), *(b.diff.copy() for blobs in net.params.values() for b in blobs)]


@pytest.mark.parametrize("seed", range(40))
def test_gradients_do_not_depend_on_names(seed, engine):
    """The same from layers in place as from layers with tops of their own."""
    layers = random_net(seed)
    dtype = np.float64 if engine == NUMPY else np.float32
    phase = seed // 3 % 2
    nets = [build(*wired(layers, in_place), dtype=dtype, phase=phase) for in_place in (True, True, False)]
    together, one_by_one, apart = (run(net, seed, i == 1) for i, net in enumerate(nets))
    for a, b in zip(nets[0].blobs.values(), nets[1].blobs.values()):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-4, atol=1e-5, err_msg=str(layers))
    largest = max(np.abs(values).max() for values in apart)
    noise = 1e3 * np.finfo(dtype).eps * largest  # rounding error of sums that should be 0
    for found in (together, one_by_one):
        for a, b in zip(found, apart):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=noise, err_msg=str(layers))


@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("behind", ["ReLU", "Dropout", "Sigmoid"])
def test_residual_blocks_with_layers_in_place_behind(behind, phase, engine):
    results = []
    for place in (True, False):
        names = "ttttsssso" if place else "abcdefgho"
        kinds = ["Convolution", "BatchNorm", "Scale", "Eltwise", "ReLU", behind, "Scale", "Convolution"]
        bottoms = ["x", names[0], names[1], f"x {names[2]}", *names[4:8]]
        tops = [*names[:3], *names[4:]]
        more = {**FIRST, **IN_PLACE, "Eltwise": ""}
        layers = [layer(f"l{i}", *each, more[each[0]]) for i, each in enumerate(zip(kinds, bottoms, tops))]
        for one_by_one in (False, True):
            net = build(*(text.replace('"o"', '"out"') for text in layers), phase=phase)
            results.append(run(net, 1, one_by_one))
    for found in results[:3]:
        for a, b in zip(found, results[3]):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * max(np.abs(v).max() for v in results[3]))


@on(ONEDNN, CUDA)
def test_what_engines_compute_together_stays_together(engine):
    """Layers in place are fused as long as no layer behind them overwrites what they must keep."""
    conv = FIRST["Convolution"]
    layers = [layer("conv1", "Convolution", "x", "y", conv), layer("bn", "BatchNorm", "y", "y"),
              layer("scale", "Scale", "y", "y"), layer("relu1", "ReLU", "y", "y"),
              layer("conv2", "Convolution", "y", "z", conv), layer("relu2", "ReLU", "z", "z"),
              layer("drop", "Dropout", "z", "z")]  # fmt: skip
    first = 1 if engine.gpu else 2  # on the GPU a convolution computes statistics for the BatchNorm behind it
    assert [(group.start, group.end) for group in build(*layers).fused.values()] == [(first, 4), (5, 6)]
    assert list(build(*layers, layer("change", "Scale", "z", "z")).fused) == [first]


def test_a_python_layer_in_place_finds_one_blob(tmp_path, monkeypatch):
    """As in pycaffe, bottom and top of an in-place Python layer are the same blob, in forward and in backward."""
    (tmp_path / "in_place_user.py").write_text(
        "import caffe\n"
        "class Square(caffe.Layer):\n"
        "    def setup(self, bottom, top): pass\n"
        "    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)\n"
        "    def forward(self, bottom, top):\n"
        "        self.x = bottom[0].data.copy()\n"
        "        top[0].data[...] = self.x**2\n"
        "    def backward(self, top, propagate_down, bottom):\n"
        "        assert (bottom[0].data == self.x**2).all() and (top[0].data == self.x**2).all()\n"
        "        bottom[0].diff[...] = 2 * self.x * top[0].diff\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    python = layer("l", "Python", "y", "y", "python_param { module: 'in_place_user' layer: 'Square' }")
    net = build(layer("a", "Power", "x", "y"), python, layer("b", "Sigmoid", "y", "y"))
    net.blobs["x"].data[...] = x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    net.forward()
    net.blobs["y"].diff[...] = 1
    net.backward()
    s = 1 / (1 + np.exp(-(x**2)))
    np.testing.assert_allclose(net.blobs["x"].diff, 2 * x * s * (1 - s), rtol=1e-4, atol=1e-6)


@on(NUMPY, ONEDNN)
def test_layers_outside_a_net_keep_their_own_input(engine):
    param = parse_text("name: 'l' type: 'Swish'", caffe_pb2.LayerParameter())
    swish, blob = create_layer(param), net_from_text(INPUT).blobs["x"]
    swish.initialize([blob], [blob])
    assert list(swish.kept_blobs.bottoms) == [0]
