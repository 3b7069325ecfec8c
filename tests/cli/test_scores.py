"""What `minicaffe test` shows beside the outputs: scores of each class, the worst pictures, checks of its flags."""

import csv
import math

import h5py
import numpy as np
import pytest

from helpers.readers import write_images
from minicaffe import TEST, Net
from minicaffe.cli.confusion import Confusion
from minicaffe.cli.per_class import ClassScores
from minicaffe.cli.worst import Worst
from minicaffe.data.mean import write_mean
from minicaffe.errors import UsageError

#: A net whose scores a script sets.
SET = """
layer {{ name: "data" type: "Input" top: "score" top: "label" input_param {{ shape {{ dim: {n} dim: {c} }}
  shape {{ dim: {n} }} }} }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy"
  accuracy_param {{ ignore_label: 255 }} }}
"""


def scored(scores: np.ndarray, labels: np.ndarray) -> Confusion:
    """Return the Confusion of a batch of scores (N, C) and labels (N,)."""
    from google.protobuf import text_format

    from minicaffe.proto import caffe_pb2

    text = SET.format(n=len(scores), c=scores.shape[1])
    net = Net(text_format.Parse(text, caffe_pb2.NetParameter()), phase=TEST)
    matrix = Confusion(net)
    net.blobs["score"].data[...], net.blobs["label"].data[...] = scores, labels
    matrix.add_batch()
    return matrix


class TestClassScores:
    def test_they_are_those_of_loops_over_the_positions(self):
        rng = np.random.default_rng(5)
        scores, labels = rng.normal(size=(200, 8)).astype(np.float32), rng.integers(0, 7, 200)
        scores[np.arange(200), labels] += 1
        scores[:4], labels[4:8] = np.nan, 255
        found = scored(scores, labels).scores
        for c in range(8):
            mine = [i for i in range(200) if labels[i] == c]
            ranked = [i for i in range(200) if not np.isnan(scores[i]).all() and labels[i] != 255]
            as_c = [i for i in ranked if scores[i].argmax() == c]
            right = sum(scores[i].argmax() == c for i in mine if i in ranked)
            top = sum(sum(scores[i, k] >= scores[i, c] for k in range(8) if k != c) < 5 for i in mine if i in ranked)
            assert found.support[c] == len(mine)
            precision = right / len(as_c)
            assert found.precision[c] == pytest.approx(precision)
            if not mine:
                assert np.isnan(found.recall[c]) and np.isnan(found.top5[c]) and found.f1[c] == 0
                continue
            recall = right / len(mine)
            assert (found.recall[c], found.top5[c]) == (pytest.approx(recall), pytest.approx(top / len(mine)))
            assert found.f1[c] == pytest.approx(2 * precision * recall / (precision + recall))
        assert found.macro == pytest.approx([np.mean(column[:7]) for column in found.columns.values()])

    def test_absent_and_never_predicted_classes(self):
        counts = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]])
        found = ClassScores(["a", "b", "c", "d"], counts, np.zeros(4, int), np.zeros(4, int))
        np.testing.assert_array_equal(found.precision, [0.6, 0, np.nan, np.nan])
        np.testing.assert_array_equal(found.recall, [0.75, np.nan, 0, np.nan])
        np.testing.assert_allclose(found.f1, [2 * 3 / 9, 0, 0, np.nan])
        assert found.top5 is None
        assert found.macro == pytest.approx([0.3, 0.375, 1 / 3])
        table = found.table()
        assert "2 of 4 classes are not among the labels" in table
        assert table.splitlines()[4].split() == ["3", "d", "-", "-", "-", "0"]
        assert list(found.rows())[3] == ["c", "", "0", "0", 2]

    def test_without_any_label(self):
        found = ClassScores(["a", "b"], np.zeros((2, 2), int), np.zeros(2, int), np.zeros(2, int))
        assert np.isnan(found.macro).all() and "macro average" in found.table()

    def test_ties_are_wrong_for_top_5_as_in_accuracy(self):
        scores = np.zeros((2, 6), np.float32)
        scores[1, 5] = 1
        found = scored(scores, np.array([5, 5])).scores
        assert found.top5[5] == 0.5

    def test_nan_alone_lowers_recall_in_every_table(self):
        matrix = scored(np.array([[np.nan] * 3, [0, 1, 0]], np.float32), np.array([1, 1]))
        assert matrix.scores.recall[1] == 0.5 and "50.0%" in matrix.table()


@pytest.fixture
def weights(project, run):
    assert run("train", "--solver", "solver.prototxt")[0] == 0
    return "tiny_iter_8.caffemodel.h5"


def test_per_class_printed_and_as_csv(project, run, weights):
    base = ("test", "-model", "net.prototxt", "-weights", weights, "-iterations", "4")
    status, out, _ = run(*base, "--per-class")
    assert status == 0 and "precision     recall         f1    support" in out and "true / predicted" not in out
    assert "macro average" in run(*base, "--confusion")[1]
    both = run(*base, "--confusion", "--per-class")[1]
    assert both.count("macro average") == 1
    assert run(*base, "--per-class", "scores.csv", "--confusion", "m.csv")[0] == 0
    rows = list(csv.reader((project / "scores.csv").read_text().splitlines()))
    assert rows[0] == ["class", "precision", "recall", "f1", "support"]
    assert [row[0] for row in rows[1:]] == ["class 0", "class 1", "class 2", "macro average"]
    assert rows[-1][-1] == "24" == str(sum(int(row[-1]) for row in rows[1:-1]))


# -- the worst pictures ------------------------------------------------------------------------------------------------

PICTURES = """
layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "db" backend: LMDB batch_size: 4 }
  transform_param { @ } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 6 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }
"""


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A database of 12 pictures (3, 8, 10) with labels 0 to 5, in the working directory."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(1).integers(0, 256, (12, 3, 8, 10), np.uint8)
    write_images("db", images, labels=6)
    write_mean("mean.binaryproto", images.mean(0).astype(np.float32))
    return images


def net_of_pictures(transform: str, layers: str = PICTURES):
    with open("net.prototxt", "w") as file:
        file.write(layers.replace("@", transform))
    net = Net("net.prototxt", TEST)
    net.params["ip"][0].data[...] = np.random.default_rng(2).normal(0, 0.05, net.params["ip"][0].shape)
    return net


@pytest.mark.parametrize(
    "transform",
    ["", "crop_size: 6", 'mean_file: "mean.binaryproto" crop_size: 5 scale: 0.01', "mean_value: 100 scale: 2"],
)
def test_restored_pictures_are_those_of_the_records(pictures, transform):
    net = net_of_pictures(transform)
    net.forward()
    layer = net.layers[0]
    height, width = net.blobs["data"].shape[2:]
    top, left = (8 - height) // 2, (10 - width) // 2
    for row, record in zip(net.blobs["data"].data, pictures):
        restored = layer.transformer.restore(row)
        np.testing.assert_allclose(restored, record[:, top : top + height, left : left + width], atol=1e-3)


@pytest.mark.parametrize("count", [1, 5, 100])
def test_worst_are_those_with_the_largest_loss(pictures, count):
    net = net_of_pictures('mean_file: "mean.binaryproto" scale: 0.02')
    worst, losses = Worst(net, count), []
    for _ in range(3):
        net.forward()
        worst.add_batch()
        scores = net.blobs["ip"].data.astype(float)
        p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        losses += [-math.log(p[i, int(label)]) for i, label in enumerate(net.blobs["label"].data)]
        assert len(worst._heap) <= count
    order = np.argsort(losses)[::-1][:count]
    kept = sorted(worst._heap, reverse=True)
    assert [each.loss for each in kept] == pytest.approx([losses[i] for i in order])
    restored = [net.layers[0].transformer.restore(each.picture) for each in kept]
    np.testing.assert_allclose(restored, pictures[order], atol=1e-3)
    assert len(worst.figure().axes[0].images) == min(count, 12)


def test_probabilities_of_a_softmax_layer_are_taken_as_they_are(pictures):
    softmax = 'layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }\n'
    accuracy = 'layer { name: "accuracy" type: "Accuracy" bottom: "prob" bottom: "label" top: "accuracy" }\n'
    net = net_of_pictures("", PICTURES[: PICTURES.index('layer { name: "loss"')] + softmax + accuracy)
    worst = Worst(net, 4)
    net.forward()
    worst.add_batch()
    p = net.blobs["prob"].data
    own = sorted(float(p[i, int(label)]) for i, label in enumerate(net.blobs["label"].data))
    assert [each.probabilities[0] for each in sorted(worst._heap, reverse=True)] == pytest.approx(own)


def test_nan_is_the_worst_and_ignored_labels_are_left_out(pictures):
    layers = PICTURES.replace('top: "loss" }', 'top: "loss" loss_param { ignore_label: 2 } }')
    net = net_of_pictures("", layers)
    worst = Worst(net, 3)
    net.forward()
    net.params["ip"][1].data[1] = np.nan
    net.forward(start="ip")
    worst.add_batch()
    assert [each.loss for each in worst._heap] == [math.inf] * 3
    assert 2 not in [each.label for each in worst._heap]
    assert worst.figure()


def test_worst_needs_pictures_with_one_label_each(project):
    accuracy = 'layer { name: "a" type: "Accuracy" bottom: "x" bottom: "label" top: "a" }'
    dummy = 'layer { name: "d" type: "DummyData" top: "x" top: "label" dummy_data_param { %s } }'
    net = net_from(dummy % "shape { dim: 4 dim: 3 } shape { dim: 4 }" + accuracy)
    with pytest.raises(UsageError, match="no layer of the net gives pictures"):
        Worst(net, 3)
    net = net_from(dummy % "shape { dim: 4 dim: 3 dim: 2 dim: 2 } shape { dim: 4 dim: 1 dim: 2 dim: 2 }" + accuracy)
    net.forward()
    with pytest.raises(UsageError, match="one label for each picture, got 16 labels for 4"):
        Worst(net, 3).add_batch()


def net_from(text: str) -> Net:
    with open("n.prototxt", "w") as file:
        file.write(text)
    return Net("n.prototxt", TEST)


def test_worst_as_a_picture(pictures, run):
    net_of_pictures("mean_value: 100").save("w.caffemodel")
    with open("names.txt", "w") as file:
        file.write("a\nb\nc\nd\ne\nf\n")
    status, out, _ = run("test", "--model", "net.prototxt", "--weights", "w.caffemodel", "--iterations", "3", "--worst",
                         "worst.svg", "--worst-count", "5", "--labels", "names.txt", "--rgb")  # fmt: skip
    assert status == 0 and "Drew the worst pictures to worst.svg" in out
    with open("worst.svg") as file:
        assert file.read().count("<image ") == 5


@pytest.mark.parametrize(
    "words, expected",
    [
        (("--confusion", "nosuch/c.png"), "cannot write 'nosuch/c.png'"),
        (("--confusion", "c.txt"), "--confusion: expected a .png, .svg, .pdf or .csv file, got 'c.txt'"),
        (("--per-class", "c.png"), "--per-class: expected a .csv file"),
        (("--per-class", "nosuch/c.csv"), "cannot write 'nosuch/c.csv'"),
        (("--worst", "nosuch/w.png"), "cannot write 'nosuch/w.png'"),
        (("--worst", "w.xyz"), "minicaffe: 'w.xyz' must end in a format"),
        (("--worst", "w.png", "--worst-count", "0"), "--worst-count: expected a number above 0, got 0"),
        (("--confusion", "--labels", "nosuch.txt"), "there is no file 'nosuch.txt'"),
        (("--confusion", "--labels", "two.txt"), "expected 3 names, one for each class, got 2"),
        (("--labels", "two.txt"), "give one of them"),
    ],
)
def test_flags_are_checked_before_the_batches(project, run, weights, words, expected):
    (project / "two.txt").write_text("a\nb\n")
    status, _, err = run("test", "-model", "net.prototxt", "-weights", weights, *words)
    assert status == 1 and expected in err.splitlines()[-1]
    assert "Running for" not in err


def test_a_net_without_accuracy_is_refused_before_the_batches(project, run, weights):
    (project / "net.prototxt").write_text('layer { name: "d" type: "DummyData" top: "x" dummy_data_param { '
                                          'shape { dim: 2 dim: 1 dim: 3 dim: 3 } } }')  # fmt: skip
    for flag, file in (("--confusion", "-"), ("--per-class", "-"), ("--worst", "w.png")):
        status, _, err = run("test", "-model", "net.prototxt", "-weights", weights, flag, file)
        assert status == 1 and f"{flag}: the net has no Accuracy or SoftmaxWithLoss layer" in err
        assert "Running for" not in err


def test_a_net_without_a_data_layer_is_warned_of(project, run):
    (project / "deploy.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }\n'
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 3 } }'
    )
    for name in ("net", "deploy"):
        Net(f"{name}.prototxt", phase=TEST).save(f"{name}.caffemodel")
        words = ("--model", f"{name}.prototxt", "--weights", f"{name}.caffemodel", "--iterations", "1")
        status, _, err = run("test", *words)
        warned = "no data layer sets the input 'data' of the net, which is zero in every batch: give the" in err
        assert status == 0 and warned == (name == "deploy")


# -- detectors ---------------------------------------------------------------------------------------------------------

DETECTOR = """
layer { name: "boxes" type: "HDF5Data" top: "found" top: "true" hdf5_data_param { source: "boxes.txt" batch_size: 1 } }
layer { name: "eval" type: "DetectionEvaluate" bottom: "found" bottom: "true" top: "eval"
        detection_evaluate_param { num_classes: 3 } }
"""


@pytest.fixture
def detector(run, tmp_path, monkeypatch):
    """Run `minicaffe test` on two batches: class 1 is right, wrong, right for two objects, class 2 has one, found."""
    monkeypatch.chdir(tmp_path)
    box = [0, 0, 1, 1]
    found = [[[0, 1, 0.9, *box], [0, 1, 0.8, *box], [0, 2, 0.3, *box]], [[0, 1, 0.7, *box], [-1] * 7, [-1] * 7]]
    true = [[[0, 1, 0, *box, 0], [0, 2, 0, *box, 0]], [[0, 1, 0, *box, 0], [-1] * 8]]
    with h5py.File("boxes.h5", "w") as file:
        file["found"], file["true"] = (np.array(rows, np.float32)[:, None] for rows in (found, true))
    (tmp_path / "boxes.txt").write_text("boxes.h5\n")
    (tmp_path / "net.prototxt").write_text(DETECTOR)
    classes = 'item { name: "n1" label: 1 display_name: "cat" } item { name: "n2" label: 2 }'
    (tmp_path / "map.prototxt").write_text(classes)
    Net("net.prototxt", phase=TEST).save("net.caffemodel")
    return lambda *flags: run(
        "test", "-model", "net.prototxt", "-weights", "net.caffemodel", "-iterations", "2", *flags
    )


class TestDetectors:
    @pytest.mark.parametrize(("version", "value"), [("Integral", "0.916667"), ("11point", "0.924243")])
    def test_map_over_all_batches(self, detector, version, value):
        log = detector("-ap-version", version)[2]
        assert f"] eval = {value}" in log and "Batch 0, eval" not in log

    def test_average_precision_of_each_class(self, detector):
        table = detector("-per-class", "-labels", "map.prototxt")[1].splitlines()
        assert [line.split() for line in table] == [
            ["eval", "AP", "objects"], ["cat", "0.8333", "2"], ["n2", "1.0000", "1"], ["mean", "0.9167", "3"],
        ]  # fmt: skip

    def test_a_table_in_a_file(self, detector):
        detector("-per-class", "classes.csv")
        with open("classes.csv", newline="") as file:
            assert list(csv.reader(file))[1:] == [
                ["eval", "class 1", "0.833333", "2"], ["eval", "class 2", "1", "1"], ["eval", "mean", "0.916667", "3"],
            ]  # fmt: skip
