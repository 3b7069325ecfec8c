"""A solver with eval_type "detection": the mAP of its test nets, in the scores, the log, and what reads them."""

import logging
import re

import h5py
import numpy as np
import pytest

import minicaffe
from minicaffe.errors import SolverError
from minicaffe.pictures.parse_log import parse_log
from minicaffe.solvers.keeping import Keeper

NET = """
layer { name: "x" type: "DummyData" top: "x" include { phase: TRAIN } dummy_data_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" include { phase: TRAIN }
        inner_product_param { num_output: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "y" top: "loss" include { phase: TRAIN } }
layer { name: "boxes" type: "HDF5Data" top: "found" top: "true" include { phase: TEST }
        hdf5_data_param { source: "boxes.txt" batch_size: 1 } }
layer { name: "eval" type: "DetectionEvaluate" bottom: "found" bottom: "true" top: "map" include { phase: TEST }
        detection_evaluate_param { num_classes: 4 } }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 test_iter: 2 test_interval: 1 '
ONES = [0, 0, 1, 1]
#: two batches; class 1: two objects, confidences 0.9 right, 0.8 wrong, 0.7 right; class 2: one object, found;
#: class 3: none, one wrong detection
FOUND = [
    [[0, 1, 0.9, *ONES], [0, 1, 0.8, *ONES], [0, 2, 0.3, *ONES]],
    [[0, 1, 0.7, *ONES], [0, 3, 0.7, *ONES], [-1] * 7],
]
TRUE = [[[0, 1, 0, *ONES, 0], [0, 2, 0, *ONES, 0]], [[0, 1, 0, *ONES, 0], [-1] * 8]]
CLASSES = {"Integral": 0.833333, "MaxIntegral": 0.833333, "11point": 0.848485}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "boxes.txt").write_text("boxes.h5\n")
    with h5py.File("boxes.h5", "w") as file:
        file["found"], file["true"] = (np.array(rows, np.float32)[:, None] for rows in (FOUND, TRUE))
    return tmp_path


def solver(text='eval_type: "detection"'):
    with open("solver.prototxt", "w") as file:
        file.write(SOLVER + text)
    return minicaffe.get_solver("solver.prototxt")


@pytest.mark.parametrize("version", CLASSES)
def test_map_over_all_batches(folder, version, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    found = solver(f'eval_type: "detection" ap_version: "{version}" show_per_class_result: true').test(0)
    expected = (CLASSES[version] + 1 + 0) / 3
    assert found["map"] == [pytest.approx(expected, rel=1e-5)]
    assert caplog.messages[-4:] == [
        f"class1: {CLASSES[version]}", "class2: 1", "class3: 0",
        f"    Test net output #0: map = {found['map'][0]:.6g}",
    ]  # fmt: skip


def test_classes_are_not_logged_unless_requested(folder, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    solver().test(0)
    assert not any(message.startswith("class1") for message in caplog.messages)


def test_other_outputs_are_averaged(folder):
    (folder / "net.prototxt").write_text(
        NET
        + """
        layer { name: "c" type: "DummyData" top: "c" include { phase: TEST } dummy_data_param { shape { dim: 2 }
                data_filler { value: 3 } } }"""
    )
    scores = solver().test(0)
    assert scores["c"] == [3, 3] and len(scores["map"]) == 1


def test_a_class_without_detections_counts_as_0(folder, caplog):
    (folder / "net.prototxt").write_text(NET.replace("num_classes: 4", "num_classes: 5"))
    with caplog.at_level(logging.WARNING, "minicaffe"):
        assert solver().test(0)["map"] == [pytest.approx((CLASSES["Integral"] + 1) / 4, rel=1e-5)]
    assert "map: there is no detection of class 4, its AP counts as 0" in caplog.text


def test_the_score_of_every_test_is_kept_and_parsed(folder):
    with open("log", "w") as file:
        handler = logging.StreamHandler(file)
        logger = logging.getLogger("minicaffe")
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            each = solver('eval_type: "detection" show_per_class_result: true snapshot_after_train: false')
            each.observers.append(Keeper(each, best="map"))
            each.solve()
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
    expected = pytest.approx((CLASSES["Integral"] + 1) / 3, rel=1e-5)
    assert [value for _, value in each.curves.tests[0, "map"].points] == [expected] * 2
    assert (folder / "solver_best.caffemodel").exists()
    text = (folder / "log").read_text()
    assert re.findall(r"class\d: \S+", text)[:3] == ["class1: 0.833333", "class2: 1", "class3: 0"]
    rows = parse_log(str(folder / "log"))[1]
    assert [row["map"] for row in rows] == [expected] * 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('eval_type: "detections"', r'eval_type must be .*, got "detections" \(did you mean "detection"\?\)'),
        ('eval_type: "detection" ap_version: "integral"', r"ap_version must be one of .*, got 'integral' \(did you"),
    ],
)
def test_unknown_values(folder, text, words):
    with pytest.raises(SolverError, match=words):
        solver(text)


def test_a_net_without_detections(folder):
    (folder / "net.prototxt").write_text(NET.split('layer { name: "eval"')[0])
    with pytest.raises(SolverError, match=r"needs a test net .*its outputs are 'found' \(1, 1, 3, 7\)"):
        solver()


def test_rows_without_the_eval_type(folder, caplog):
    with caplog.at_level(logging.WARNING, "minicaffe"):
        assert solver("").test(0) == {"map": []}
    assert "output 'map' has no mean: it has 30 values in one batch and 25 in another" in caplog.text
