"""InfogainLoss."""

import numpy as np
import pytest

from helpers.references import softmax
from minicaffe.errors import LayerError
from minicaffe.proto import caffe_pb2
from minicaffe.testing import Case, LayerProperties, labels, normal, run_layer, top_of


def loss(text="", more=""):
    return f"type: 'InfogainLoss' infogain_loss_param {{ {more} }} loss_param {{ {text} }}"


VALUES = [normal, labels(3), normal]


class TestProperties(LayerProperties):
    cases = [
        Case(loss(), [(4, 3), (4,), (3, 3)], VALUES, gradient=[0]),
        Case(loss("ignore_label: 1"), [(4, 3, 2), (4, 2), (1, 1, 3, 3)], VALUES, gradient=[0]),
        Case(loss("normalization: FULL"), [(2, 3, 2), (2, 2), (3, 3)], VALUES, gradient=[0]),
    ]


def test_values_against_a_loop():
    rng = np.random.default_rng(0)
    x, t, matrix = rng.standard_normal((2, 3, 4)), rng.integers(0, 3, (2, 4)).astype(float), rng.random((3, 3))
    t[1, 2] = 5
    total = 0.0
    for n, place in np.ndindex(2, 4):
        p = softmax(x)[n, :, place]
        if t[n, place] != 5:
            total -= sum(matrix[int(t[n, place]), k] * np.log(p[k]) for k in range(3))
    _, _, top = run_layer(loss("ignore_label: 5"), x, t, matrix, num_top=2)
    np.testing.assert_allclose(top[0].data, total / 7)
    np.testing.assert_allclose(top[1].data, softmax(x))


def test_the_unit_matrix_makes_it_a_softmax_loss():
    x, t = np.random.default_rng(0).standard_normal((4, 3)), [0.0, 1.0, 2.0, 1.0]
    plain = top_of("type: 'SoftmaxWithLoss'", x, t)
    np.testing.assert_allclose(top_of(loss(), x, t, np.eye(3)), plain)


def test_the_matrix_may_come_from_a_file(tmp_path):
    matrix = np.random.default_rng(1).random((3, 3)).astype(np.float32)
    proto = caffe_pb2.BlobProto(num=1, channels=1, height=3, width=3, data=matrix.ravel().tolist())
    (tmp_path / "h.binaryproto").write_bytes(proto.SerializeToString())
    x, t = np.random.default_rng(0).standard_normal((4, 3)), [0.0, 1.0, 2.0, 1.0]
    from_file = top_of(loss("", f"source: '{tmp_path}/h.binaryproto'"), x, t)
    np.testing.assert_allclose(from_file, top_of(loss(), x, t, matrix), rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "more", "shapes", "sentence"),
    [
        ("", "", [(2, 3), (2,)], "the matrix H must be given, as bottom 2 or by infogain_loss_param source"),
        ("", "source: '/no/such'", [(2, 3), (2,)], "cannot read source '/no/such': No such file"),
        ("", "", [(2, 3), (2,), (2, 2)], r"the matrix H must be 3 by 3, got \(2, 2\)"),
        ("normalize: true", "", [(2, 3), (2,), (3, 3)], "normalize is not for this layer: use normalization"),
    ],
)
def test_what_is_refused(text, more, shapes, sentence):
    with pytest.raises(LayerError, match="^InfogainLoss layer 'layer': " + sentence):
        run_layer(loss(text, more), *(np.zeros(shape) for shape in shapes))
