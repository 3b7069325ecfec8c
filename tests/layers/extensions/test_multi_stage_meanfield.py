"""MultiStageMeanfield: the iterations by plain loops over pixels, with the lattice's filters as matrices."""

import numpy as np
import pytest

from minicaffe.core.blob import Blob
from minicaffe.errors import LayerError
from minicaffe.layers.shared.permutohedral import Lattice, pixel_features
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.proto.upgrade_v1 import upgrade_v1_layer
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, normal, run_layer


def mean_field(text="num_iterations: 3 theta_alpha: 4 theta_beta: 60 theta_gamma: 1.5"):
    return f"type: 'MultiStageMeanfield' multi_stage_meanfield_param {{ {text} }}"


def image(rng, shape):
    return rng.uniform(-120, 130, shape).round()


class TestProperties(LayerProperties):
    cases = [
        Case(mean_field(), [(2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5)], [normal, normal, image], gradient=[0, 1]),
        Case(
            mean_field("num_iterations: 2 spatial_filter_weight: 3 bilateral_filter_weight: 5"),
            [(1, 2, 3, 1), (1, 2, 3, 1), (1, 1, 3, 1)], [normal, normal, image], gradient=[0, 1],
        ),
        Case(mean_field(), [(1, 4, 1, 1), (1, 4, 1, 1), (1, 3, 1, 1)], [normal, normal, image], gradient=[0, 1]),
    ]  # fmt: skip


def arrays(seed=0, samples=2, classes=3, size=(5, 4)):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((2, samples, classes, *size))
    return *scores, image(rng, (samples, 3, *size))


def by_loops(u, x, pixels, matrices, steps):
    """One sample: u, x (C, H, W), pixels (3, H, W)."""
    size, classes = u.shape[1:], len(u)
    filters = [
        Lattice(pixel_features(size, 1.5), np.float64).filter(np.eye(size[0] * size[1])).T,
        Lattice(pixel_features(size, 4, pixels, 60), np.float64).filter(np.eye(size[0] * size[1])).T,
    ]
    u, x = u.reshape(classes, -1), x.reshape(classes, -1)
    for _ in range(steps):
        q = np.exp(x) / np.exp(x).sum(0)
        x = u.copy()
        for p in range(q.shape[1]):
            filtered = [[sum(k[p, j] * q[c, j] for j in range(q.shape[1])) for c in range(classes)] for k in filters]
            message = matrices[0] @ filtered[0] + matrices[1] @ filtered[1]
            x[:, p] -= matrices[2] @ message
    return x.reshape(classes, *size)


def test_against_loops(engine):
    rng, bottoms = np.random.default_rng(5), arrays()
    layer, bottom, top = build_layer(mean_field(), *bottoms, dtype=np.float32)
    for blob in layer.blobs:
        blob.data[...] = blob.data + 0.5 * rng.standard_normal(blob.shape)
    layer.forward(bottom, top)
    matrices = [blob.data[0, 0].astype(float) for blob in layer.blobs]
    for n, each in enumerate(zip(*bottoms)):
        assert_close(top[0].data[n], by_loops(*each, matrices, 3), rtol=1e-3, atol=1e-4)


def test_weights_at_first():
    layer, _, _ = build_layer(
        mean_field("num_iterations: 2 spatial_filter_weight: 3 bilateral_filter_weight: 5"), *arrays()
    )
    for blob, value in zip(layer.blobs, (3, 5, -1)):
        np.testing.assert_array_equal(blob.data, value * np.eye(3)[None, None])
    text = "num_iterations: 2 spatial_filter_weights_str: '1 2.5 3' bilateral_filter_weights_str: '4 5 6'"
    layer, _, _ = build_layer(mean_field(text), *arrays())
    np.testing.assert_array_equal(layer.blobs[0].data[0, 0], np.diag([1, 2.5, 3]))
    np.testing.assert_array_equal(layer.blobs[1].data[0, 0], np.diag([4, 5, 6]))


def test_weights_that_were_copied_in_stay():
    layer, bottom, top = build_layer(mean_field(), *arrays())
    again = type(layer)(layer.layer_param, dtype=np.float64)
    for k in range(3):
        again.blobs.append(Blob((1, 1, 3, 3), np.float64))
        again.blobs[k].data[...] = k + 7
    again.initialize(bottom, top)
    for k, blob in enumerate(again.blobs):
        assert (blob.data == k + 7).all()


def test_an_edge_is_kept_where_the_colour_changes():
    """Noisy scores of two halves of a picture become nearly clean, without a shift of the edge."""
    rng, size = np.random.default_rng(0), (12, 16)
    left = np.arange(16) < 7
    scores = np.stack([np.where(left, 1.0, -1.0) + rng.standard_normal(size), np.zeros(size)])
    pixels = np.broadcast_to(np.where(left, 0.0, 200.0), (3, *size))
    text = "num_iterations: 5 theta_alpha: 30 theta_beta: 20 theta_gamma: 2 bilateral_filter_weight: 4"
    _, _, top = run_layer(mean_field(text), scores[None], scores[None], pixels[None])
    before, after = (np.mean((each[0] > each[1]) == left) for each in (scores, top[0].data[0]))
    assert before < 0.92 and after > 0.99


def test_another_size_and_batch(engine):
    """The spatial lattice is that of the new size."""
    layer, bottom, top = run_layer(mean_field(), *arrays(), dtype=np.float32)
    for samples, size in ((1, (3, 6)), (3, (5, 4))):
        bottoms = arrays(1, samples, 3, size)
        for blob, values in zip(bottom, bottoms):
            blob.reshape(values.shape)
            blob.data[...] = values
        layer.forward(bottom, top)
        matrices = [blob.data[0, 0].astype(float) for blob in layer.blobs]
        assert_close(top[0].data[-1], by_loops(*(b[-1] for b in bottoms), matrices, 3), rtol=1e-3, atol=1e-4)


def test_products_with_the_three_matrices_are_counted():
    layer, _, _ = build_layer(mean_field(), *arrays())
    assert layer.macs([(2, 3, 5, 4)] * 3, [(2, 3, 5, 4)]) == 3 * 3 * 9 * 40


def test_v1_layers_are_upgraded():
    text = "name: 'crf' type: MULTI_STAGE_MEANFIELD blobs_lr: 100 multi_stage_meanfield_param { num_iterations: 5 }"
    new = caffe_pb2.LayerParameter()
    upgrade_v1_layer(parse_text(text, caffe_pb2.V1LayerParameter()), new)
    assert new.type == "MultiStageMeanfield" and new.multi_stage_meanfield_param.num_iterations == 5


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("", [(1, 2, 3, 3)] * 3, "num_iterations must be at least 2, got 1"),
        ("num_iterations: 2 theta_beta: 0", [(1, 2, 3, 3)] * 3, "theta_alpha, theta_beta and theta_gamma must be "),
        ("num_iterations: 2", [(1, 2, 3, 3), (1, 3, 3, 3), (1, 3, 3, 3)], r"bottoms must be \(N, C, H, W\) twice and"),
        (
            "num_iterations: 2 spatial_filter_weights_str: '1 2 3'", [(1, 2, 3, 3)] * 3,
            r"spatial_filter_weights_str must hold 2 numbers, one for each class, got \['1', '2', '3'\]",
        ),
        (
            "num_iterations: 2 bilateral_filter_weights_str: '1 x'", [(1, 2, 3, 3)] * 3,
            "bilateral_filter_weights_str must hold 2 numbers",
        ),
    ],
)  # fmt: skip
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^MultiStageMeanfield layer 'layer': {words}"):
        build_layer(mean_field(text), *(np.zeros(shape) for shape in shapes))


def test_an_image_that_is_not_finite_is_refused():
    u, x, pixels = arrays()
    pixels[1, 0, 0, 0] = np.inf
    with pytest.raises(
        LayerError, match="^MultiStageMeanfield layer 'layer': the image has values that are not finite"
    ):
        run_layer(mean_field(), u, x, pixels)
