"""Mean."""

import numpy as np
import pytest

from minicaffe.data.mean import write_mean
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, run_layer, top_of


def mean(text):
    return f"type: 'Mean' mean_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(mean("operation: SUBTRACT value: [1, -2, 3]"), [(2, 6, 2, 3)]),
        Case(mean("operation: ADD value: 5 input_scale: 2 mean_scale: 3 output_scale: -0.5"), [(2, 3, 1, 2)]),
        Case(mean("operation: ADD value: [5, 7]"), [(2, 4, 1, 2)] * 2, num_top=2),
    ]


def test_values(engine):
    x = np.random.default_rng(0).standard_normal((2, 4, 2, 3))
    y = top_of(mean("operation: SUBTRACT value: [1, -2] input_scale: 255 output_scale: 0.5"), x, dtype=np.float32)
    assert_close(y, 0.5 * (255 * x - np.array([1, -2, 1, -2])[:, None, None]))


def test_a_file_of_the_channels_of_one_of_two_pictures(engine, tmp_path):
    x, means = np.random.default_rng(0).standard_normal((3, 2, 4, 2, 3))[:2]
    write_mean(tmp_path / "mean.binaryproto", means[0, :2])
    text = mean(f"operation: ADD file: '{tmp_path / 'mean.binaryproto'}' mean_scale: 2")
    assert_close(top_of(text, x, dtype=np.float32), x + 2 * np.tile(means[0, :2], (2, 1, 1)))
    with pytest.raises(
        LayerError, match=r"bottom 0 must be .* of size \(2, 3\), C a multiple of 2, got \(1, 2, 2, 2\)"
    ):
        run_layer(text, np.zeros((1, 2, 2, 2)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("value: 1", "mean_param needs operation"),
        ("operation: ADD", "mean_param must have either file or value"),
        ("operation: ADD value: [1, 2]", r"C a multiple of 2, got \(1, 3, 2, 2\)"),
    ],
)
def test_errors_name_the_layer(text, words):
    with pytest.raises(LayerError, match=f"^Mean layer 'layer': .*{words}"):
        top_of(mean(text), np.zeros((1, 3, 2, 2)))


def test_a_missing_file_is_an_error_of_the_layer(tmp_path):
    with pytest.raises(LayerError, match="^Mean layer 'layer': cannot read mean file"):
        build_layer(f"type: 'Mean' mean_param {{ operation: ADD file: '{tmp_path}/none' }}", np.zeros((1, 1, 2, 2)))
