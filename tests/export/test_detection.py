"""DetectionOutput as ONNX: the rows of numpy, in their order."""

import numpy as np
import pytest

from helpers.layer_cases import feeds, net_text
from helpers.nets import layer_text
from minicaffe.errors import ExportError
from minicaffe.testing import NUMPY, Case

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
pytest.importorskip("onnxruntime", reason="needs the packages onnx and onnxruntime")
from helpers.onnx_runs import difference_of, export, run_reference  # noqa: E402

TOLERANCE = 2e-6  #: relative to the largest value: sums have another order

PRIORS, CLASSES = 40, 4
CODES = ("CORNER", "CENTER_SIZE", "CORNER_SIZE")


@pytest.fixture(autouse=True)
def on_numpy():
    with NUMPY.chosen():
        yield


def output(more="", samples=2, sets=1):
    text = f"type: 'DetectionOutput' detection_output_param {{ num_classes: {CLASSES} {more} }}"
    return net_text(Case(text, [(samples, PRIORS * sets * 4), (samples, PRIORS * CLASSES), (1, 2, PRIORS * 4)]))


def scene(seed, samples=2, sets=1, ties=False, spread=0.5):
    """Random inputs: priors of which many overlap, codes, confidences; with `ties`, of few different values.

    spread: standard deviation of the codes.
    """
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.random((PRIORS, 2, 2)), axis=1).reshape(PRIORS, 4)
    variances = np.tile([0.1, 0.1, 0.2, 0.2], (PRIORS, 1))
    confidences = rng.random((samples, PRIORS * CLASSES))
    if ties:
        confidences = np.round(confidences * 4) / 4
    codes = spread * rng.standard_normal((samples, PRIORS, sets, 4))
    if ties:
        codes[:, 1::2] = codes[:, ::2]
        corners[1::2] = corners[::2]
    return codes.reshape(samples, -1), confidences, np.stack([corners, variances]).reshape(1, 2, -1)


def check(exported, *arrays):
    """Compare the model with the net; return the net's rows."""
    assert difference_of(exported, dict(zip(exported.net.inputs, feeds(*arrays).values(), strict=True))) < TOLERANCE
    (top,) = exported.net.outputs
    return exported.net.blobs[top].data[0, 0]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("encoded", ["true", "false"])
@pytest.mark.parametrize("shared", ["true", "false"])
def test_decoding(code, encoded, shared):
    sets = 1 if shared == "true" else CLASSES
    text = f"code_type: {code} variance_encoded_in_target: {encoded} share_location: {shared} keep_top_k: 30"
    exported = export(output(text, sets=sets))
    assert exported.free == {("x0", 0): "N_x0", ("x1", 0): "N_x0"}
    for seed, spread in enumerate((0.5, 3)):  # with 3, many of the boxes are turned around
        locations, confidences, priors = scene(seed, samples=4, sets=sets, spread=spread)
        for samples in (1, 2, 4):
            check(exported, locations[:samples], confidences[:samples], priors)


@pytest.mark.parametrize("threshold", ["", "nms_threshold: 0 ", "nms_threshold: 0.6 ", "nms_threshold: 1.5 "])
@pytest.mark.parametrize("top_k", ["", "top_k: 7", "top_k: 1000"])
@pytest.mark.parametrize(
    "more",
    ["", "keep_top_k: 5", "keep_top_k: 1000", "background_label_id: 2 confidence_threshold: 0.5",
     "background_label_id: -1 keep_top_k: 9 confidence_threshold: 0.25"],
)  # fmt: skip
def test_which_boxes_stay(threshold, top_k, more):
    exported = export(output(f"code_type: CENTER_SIZE nms_param {{ {threshold} {top_k} }} {more}"))
    for seed in range(2):
        check(exported, *scene(seed))
        check(exported, *scene(seed, ties=True))


def test_samples_with_and_without_boxes():
    exported = export(output("code_type: CENTER_SIZE confidence_threshold: 0.5", samples=3))
    codes, confidences, priors = scene(0, samples=3)
    for empty in ([0], [1, 2], [0, 1, 2]):
        some = confidences.copy()
        some[empty] *= 0.5
        found = check(exported, codes, some, priors)
        assert set(found[:, 0]) == ({0, 1, 2} - set(empty) or {0, 1, 2})
    np.testing.assert_array_equal(found, [[n, -1, -1, -1, -1, -1, -1] for n in range(3)])


def test_keep_top_k_0():
    found = check(export(output("keep_top_k: 0")), *scene(0))
    np.testing.assert_array_equal(found[:, :2], [[0, -1], [1, -1]])


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.95, 1.5])
@pytest.mark.parametrize("eta", [0.5, 0.95])
@pytest.mark.parametrize("more", ["", "confidence_threshold: 0.4 keep_top_k: 12"])
def test_a_threshold_that_shrinks(threshold, eta, more):
    exported = export(output(f"nms_param {{ nms_threshold: {threshold} eta: {eta} top_k: 30 }} {more}"))
    assert ("Scan" in {node.op_type for node in exported.model.graph.node}) == (threshold > 0.5)
    for seed, spread in enumerate((0.2, 0.5, 3)):
        check(exported, *scene(seed, samples=3, spread=spread))
        check(exported, *scene(seed, ties=True))


@pytest.mark.parametrize(
    "more",
    ["code_type: CENTER_SIZE nms_param { nms_threshold: 0.6 top_k: 7 } keep_top_k: 5", "confidence_threshold: 0.3",
     "confidence_threshold: 3", "nms_param { nms_threshold: 0.6 eta: 0.9 }"],
)  # fmt: skip
def test_it_does_not_depend_on_the_runtime(more):
    exported = export(output(more))
    for ties in (False, True):
        assert difference_of(exported, feeds(*scene(0, ties=ties)), run_reference) < TOLERANCE


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("shared", ["true", "false"])
@pytest.mark.parametrize("more", ["", "confidence_threshold: 0.1"])
def test_refinedet(code, shared, more):
    sets = 1 if shared == "true" else CLASSES
    text = f"type: 'DetectionOutput' detection_output_param {{ num_classes: {CLASSES} objectness_score: 0.4 {more} "
    shapes = [(2, PRIORS * sets * 4), (2, PRIORS * CLASSES), (1, 2, PRIORS * 4), (2, PRIORS * 2), (2, PRIORS * 4)]
    exported = export(net_text(Case(f"{text} code_type: {code} share_location: {shared} }}", shapes)))
    rng = np.random.default_rng(0)
    for seed in range(2):
        found = check(exported, *scene(seed, sets=sets), rng.random(shapes[3]), 0.5 * rng.standard_normal(shapes[4]))
        assert len(found) > 20


def test_what_has_no_form():
    with pytest.raises(ExportError, match="DetectionOutput layer 'layer': it has no candidates"):
        export(output("nms_param { top_k: 0 }"))


def head(bottom, size):
    """The layers of a detector on a feature map: locations, confidences, priors."""
    text = ""
    for kind, numbers in (("loc", 4 * 4), ("conf", 4 * CLASSES)):
        name = f"{bottom}_{kind}"
        text += layer_text(f"{name}_conv", "Convolution", bottom, f"{name}_conv",
                           f"convolution_param {{ kernel_size: 3 pad: 1 num_output: {numbers} }}")  # fmt: skip
        order = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
        text += layer_text(f"{name}_turned", "Permute", f"{name}_conv", f"{name}_turned", order)
        text += layer_text(name, "Flatten", f"{name}_turned", name)
    boxes = f"prior_box_param {{ min_size: {size} max_size: {2 * size} aspect_ratio: 2 clip: true }}"
    return text + layer_text(f"{bottom}_priors", "PriorBox", f"{bottom} data", f"{bottom}_priors", boxes)


DETECTOR = [
    layer_text("data", "Input", "", "data", "input_param { shape { dim: 2 dim: 3 dim: 32 dim: 40 } }"),
    layer_text("conv", "Convolution", "data", "conv", "convolution_param { num_output: 8 kernel_size: 3 stride: 4 }"),
    layer_text("norm", "Normalize", "conv", "norm", "norm_param { across_spatial: false channel_shared: false }"),
    layer_text("fc", "Convolution", "conv", "fc", "convolution_param { num_output: 8 kernel_size: 3 stride: 2 }"),
    head("norm", 8),
    head("fc", 16),
    *(layer_text(kind, "Concat", f"norm_{kind} fc_{kind}", kind, f"concat_param {{ axis: {axis} }}")
      for kind, axis in (("loc", 1), ("conf", 1), ("priors", 2))),
    layer_text("scores", "Reshape", "conf", "scores", f"reshape_param {{ shape {{ dim: 0 dim: -1 dim: {CLASSES} }} }}"),
    layer_text("softmax", "Softmax", "scores", "softmax", "softmax_param { axis: 2 }"),
    layer_text("flat", "Flatten", "softmax", "flat"),
    layer_text("found", "DetectionOutput", "loc flat priors", "found", f"""detection_output_param {{
        num_classes: {CLASSES} code_type: CENTER_SIZE keep_top_k: 20 confidence_threshold: 0.01
        nms_param {{ nms_threshold: 0.45 top_k: 40 }} }}"""),
]  # fmt: skip


def test_a_detector_at_several_batch_sizes():
    exported = export("".join(DETECTOR))
    assert exported.free == {("data", 0): "N"}
    for samples in (1, 2, 5):
        found = check(exported, np.random.default_rng(samples).standard_normal((samples, 3, 32, 40)))
        assert len(found) == 20 * samples
