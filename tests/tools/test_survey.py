"""tools/survey.py: files by what they have unknown, and what blocks most."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TRT = 'layer { name: "a" type: "TRT" bottom: "x" top: "y" trt_param { top_k: 2 } }'
FILES = {
    "one/known.prototxt": 'layer { name: "a" type: "ReLU" bottom: "x" top: "y" }',
    "one/copy.prototxt": 'layer { name: "a" type: "ReLU" bottom: "x" top: "y" }',
    "one/solver.prototxt": 'net: "known.prototxt" base_lr: 0.1',
    "one/sub/trt.prototxt": TRT,
    "one/hint.prototxt": 'layer { name: "a" type: "ReLU" multinode { bw: 8 } }',
    "two/trt.prototxt": f"{TRT} # again",
    "two/type.prototxt": 'base_lr: 1 net_param { layer { name: "a" type: "TRT" bottom: "x" top: "y" } }',
    "two/name.prototxt": 'name: "a net without layers"',
    "two/template.prototxt": "layer { convolution_param { num_output: cls6x } } layer { bias_param { axs: 2 } }",
    "two/broken.prototxt": "layer {",
    "two/labels.prototxt": "item { name: 'a' label: 0 }",
}


@pytest.fixture
def survey(monkeypatch, tmp_path):
    """The module and the Survey of FILES."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import survey as module

    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    yield module.Survey(tmp_path)
    del sys.modules["survey"]


def test_counts(survey):
    assert survey.counts() == {"nothing unknown": 3, "only types": 1, "only fields": 2, "types and fields": 2}
    assert [path.name for path in survey.unreadable] == ["broken.prototxt", "labels.prototxt"]


def test_rankings(survey):
    assert survey.ranked("type", lambda each: each.name) == [("TRT", 2, 3, 1)]
    assert survey.ranked("", lambda each: each.owner) == [
        ("NVIDIA's Caffe", 2, 3, 3), ("Intel's Caffe", 1, 1, 1), ("MobileNet-SSD's templates", 1, 1, 0),
        ("no known fork", 1, 1, 0),
    ]  # fmt: skip
    assert survey.ranked("field", lambda each: each.name) == [
        ("LayerParameter.trt_param", 2, 2, 0),
        ("BiasParameter.axs", 1, 1, 0),
        ('ConvolutionParameter.num_output has the placeholder "cls6x"', 1, 1, 0),
        ("LayerParameter.multinode", 1, 1, 1),
    ]
