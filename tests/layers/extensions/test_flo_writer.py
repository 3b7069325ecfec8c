"""FLOWriter."""

import numpy as np
import pytest

from minicaffe.errors import DataError, LayerError
from minicaffe.testing import run_layer


def writer(text):
    return f"type: 'FLOWriter' writer_param {{ {text} }}"


def contents(path):
    """Width, height, and the values (H, W, 2)."""
    data = path.read_bytes()
    assert data[:4] == b"PIEH"
    width, height = np.frombuffer(data, "<i4", 2, 4)
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2)


def test_a_folder_gets_a_file_for_each_pass_and_sample(tmp_path):
    flow = np.random.default_rng(0).standard_normal((2, 2, 3, 5))
    text = writer(f"folder: '{tmp_path / 'new' / 'out'}' prefix: 'a-' suffix: '-b'")
    layer, bottom, _ = run_layer(text, flow, num_top=0)
    state = layer.state()
    layer.forward(bottom, [])
    names = ["a-0000000(000)-b.flo", "a-0000000(001)-b.flo", "a-0000001(000)-b.flo", "a-0000001(001)-b.flo"]
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == names
    for n, name in enumerate(names):
        values = contents(tmp_path / "new" / "out" / name)
        np.testing.assert_array_equal(values, flow[n % 2].transpose(1, 2, 0).astype(np.float32))
    layer.load_state(state)
    assert layer.passes == 1
    run_layer(writer(f"folder: '{tmp_path}' prefix: 'one'"), flow[:1], num_top=0)
    assert (tmp_path / "one0000000.flo").exists()


def test_a_file(tmp_path):
    flow = np.random.default_rng(0).standard_normal((1, 2, 3, 5))
    run_layer(writer(f"file: '{tmp_path / 'x.flo'}'"), flow, num_top=0)
    np.testing.assert_array_equal(contents(tmp_path / "x.flo"), flow[0].transpose(1, 2, 0).astype(np.float32))


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("", (1, 2, 3, 4), "writer_param must name a file or a folder"),
        ("file: 'x.flo'", (1, 3, 3, 4), r"bottom 0 must be \(N, 2, H, W\), got \(1, 3, 3, 4\)"),
        ("file: 'x.flo'", (2, 2, 3, 4), "one file takes one sample"),
    ],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^FLOWriter layer 'layer': {words}"):
        run_layer(writer(text), np.zeros(shape), num_top=0)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="^FLOWriter layer 'layer': cannot write"):
        run_layer(writer(f"folder: '{tmp_path / 'file'}'"), np.zeros((1, 2, 3, 4)), num_top=0)
