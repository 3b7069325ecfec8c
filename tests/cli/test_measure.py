"""`minicaffe test`, `minicaffe time` and `minicaffe device_query`."""

import csv
import os
import re

import numpy as np
import pytest

from minicaffe.cli.confusion import Confusion

#: A net whose scores are a function of the data, so the predictions are known.
KNOWN = """
name: "known"
layer { name: "data" type: "DummyData" top: "score" top: "label" dummy_data_param {
  shape { dim: 6 dim: 3 } shape { dim: 6 }
  data_filler { type: "gaussian" std: 1 } data_filler { type: "uniform" min: 0 max: 2.99 } } }
layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_weight: 2 }
"""


@pytest.fixture
def weights(project, run):
    assert run("train", "--solver", "solver.prototxt")[0] == 0
    return "tiny_iter_8.caffemodel.h5"


def numbers(pattern: str, log: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, log, re.MULTILINE)]


def test_batches_and_means_in_the_originals_words(project, run, weights):
    status, out, log = run("test", "-model", "net.prototxt", "-weights", weights, "-iterations", "3")
    assert (status, out) == (0, "")
    assert "Running for 3 iterations." in log
    accuracy, loss = (numbers(rf"Batch \d, {name} = ([\d.e+-]+)$", log) for name in ("accuracy", "loss"))
    assert len(accuracy) == len(loss) == 3
    assert numbers(r"Loss: ([\d.e+-]+)$", log) == pytest.approx([np.mean(loss)], rel=1e-4)
    assert numbers(r"\] accuracy = ([\d.e+-]+)$", log) == pytest.approx([np.mean(accuracy)], rel=1e-4)
    assert numbers(r"\] loss = ([\d.e+-]+) \(\* 1 = [\d.e+-]+ loss\)$", log) == pytest.approx([np.mean(loss)], rel=1e-4)


def test_a_loss_weight_is_multiplied_in(project, run, weights):
    (project / "net.prototxt").write_text(KNOWN)
    log = run("test", "-model", "net.prototxt", "-weights", weights, "-iterations", "2")[2]
    mean, product = re.search(r"\] loss = ([\d.]+) \(\* 2 = ([\d.]+) loss\)", log).groups()
    assert float(product) == pytest.approx(2 * float(mean), rel=1e-4)
    assert numbers(r"Loss: ([\d.]+)$", log) == pytest.approx([float(product)], rel=1e-4)


def test_weights_of_another_net_are_refused_by_name(project, run, weights):
    text = (project / "net.prototxt").read_text()
    (project / "net.prototxt").write_text(text.replace("num_output: 3", "num_output: 7"))
    status, _, err = run("test", "-model", "net.prototxt", "-weights", weights)
    assert status == 1
    assert "layer 'ip': shape mismatch" in err and "Traceback" not in err


def test_confusion_counts_every_sample(project):
    from minicaffe import Net

    (project / "net.prototxt").write_text(KNOWN)
    net = Net("net.prototxt", 1)
    matrix = Confusion(net)
    expected = np.zeros((3, 3), int)
    for _ in range(5):
        net.forward()
        matrix.add_batch()
        for scores, label in zip(net.blobs["score"].data, net.blobs["label"].data):
            expected[int(label), int(scores.argmax())] += 1
    np.testing.assert_array_equal(matrix.counts, expected)
    assert f"{np.trace(expected)} of 30 right" in matrix.table()


def test_nan_scores_are_wrong_in_the_confusion_matrix(project):
    from minicaffe import Net

    (project / "net.prototxt").write_text(KNOWN)
    net = Net("net.prototxt", 1)
    matrix = Confusion(net)
    nan = np.nan
    net.blobs["score"].data[...] = [[nan, nan, nan]] * 4 + [[nan, 1, 0], [0, 1, nan]]
    net.blobs["label"].data[...] = [0, 0, 1, 2, 0, 1]
    matrix.add_batch()
    np.testing.assert_array_equal(matrix.counts, [[0, 1, 0], [0, 1, 0], [0, 0, 0]])
    assert matrix.table().splitlines()[-1] == "1 of 6 right (16.67%), 4 have only nan as scores"


def test_confusion_as_text_table_and_picture(project, run, weights):
    (project / "names.txt").write_text("cat\ndog\ncow\n")
    base = ("test", "-model", "net.prototxt", "-weights", weights, "-iterations", "4", "--labels", "names.txt")
    status, out, _ = run(*base, "--confusion")
    assert status == 0 and "2 cow" in out and "of 24 right" in out
    assert run(*base, "--confusion", "matrix.csv")[0] == 0
    rows = list(csv.reader((project / "matrix.csv").read_text().splitlines()))
    assert rows[0][1:] == ["cat", "dog", "cow"]
    assert sum(int(n) for row in rows[1:] for n in row[1:]) == 24
    assert run(*base, "--confusion=matrix.png")[0] == 0
    assert (project / "matrix.png").read_bytes().startswith(b"\x89PNG")


def test_confusion_needs_scores_and_as_many_names(project, run, weights):
    (project / "names.txt").write_text("cat\ndog\n")
    base = ("test", "-model", "net.prototxt", "-weights", weights, "--confusion")
    assert "expected 3 names, one for each class, got 2" in run(*base, "--labels", "names.txt")[2]
    status, _, err = run(*base, "matrix.xyz", "-iterations", "1")
    assert status == 1 and "expected a .png, .svg, .pdf or .csv file" in err
    text = (project / "net.prototxt").read_text()
    (project / "net.prototxt").write_text(text[: text.index('layer { name: "accuracy"')])
    status, _, err = run(*base)
    assert status == 1 and "no Accuracy or SoftmaxWithLoss layer" in err


def test_time_tells_each_layer_and_the_averages(project, run):
    status, _, log = run("time", "-model", "net.prototxt", "-iterations", "3")
    assert status == 0
    for expected in ("Performing Forward", "Performing Backward", "*** Benchmark begins ***", "Initial loss: ",
                     "Testing for 3 iterations.", "*** Benchmark ends ***", "Average time per layer: "):  # fmt: skip
        assert expected in log
    layers = ["data", "conv", "drop", "ip", "loss"]
    for way in ("forward", "backward"):
        assert re.findall(rf"\] +(\w+)\t{way}: [\d.e+-]+ ms\.$", log, re.MULTILINE) == layers
        (total,) = numbers(rf"Average {way.title()} pass: ([\d.e+-]+) ms\.$", log)
        assert total == pytest.approx(sum(numbers(rf"\t{way}: ([\d.e+-]+) ms\.$", log)), rel=1e-3)
    (each,) = numbers(r"Average Forward-Backward: ([\d.e+-]+) ms\.$", log)
    assert numbers(r"Total Time: ([\d.e+-]+) ms\.$", log) == pytest.approx([3 * each], rel=1e-3)
    assert len(numbers(r"Iteration: \d forward-backward time: ([\d.e+-]+) ms\.$", log)) == 3


def test_time_in_test_phase(project, run):
    log = run("time", "-model", "net.prototxt", "-iterations", "1", "-phase", "TEST")[2]
    assert "Creating Layer accuracy" in log


def test_device_query_tells_engines_and_why_there_is_no_gpu(run, monkeypatch):
    from minicaffe.cuda import context

    monkeypatch.setattr(context, "device_count", lambda: 0)
    monkeypatch.setattr(context, "reason_unavailable", lambda: "no GPU can be used: there is none")
    status, _, log = run("device_query")
    assert status == 0
    assert "Querying GPUs all" in log and "no GPU can be used" in log
    assert "CPU engine CAFFE: numpy" in log


@pytest.mark.gpu
def test_on_a_gpu(project, run, cuda_device):
    status, _, log = run("device_query", "-gpu", "0")
    assert status == 0 and "Name:  " in log and "Number of multiprocessors:     " in log
    status, _, log = run("time", "-model", "net.prototxt", "-iterations", "2", "-gpu", "0")
    assert status == 0 and "GPU device name: " in log and "Device memory: " in log
    for layer in ("conv", "ip"):
        assert len(numbers(rf"\] +{layer}\t(?:for|back)ward: ([\d.e+-]+) ms\.$", log)) == 2
    (active,) = re.findall(r"Device memory: active ([\d,]+) bytes", log)
    assert active != "0" or os.environ.get("MINICAFFE_DEVICE_POOL") == "0", "without the pool bytes are not counted"
    status, _, log = run("train", "-solver", "solver.prototxt", "-gpu", "all")
    assert status == 0 and "Optimization Done." in log


@pytest.mark.gpu
@pytest.mark.parametrize("math", ["tf32", "bf16"])
def test_train_with_tensor_cores(project, run, cuda_device, math):
    from minicaffe.cuda import context

    status, _, log = run("train", "-solver", "solver.prototxt", "-gpu", "0", "--math", math)
    assert status == 0 and "Optimization Done." in log
    assert ("Precision bf16 in" in log) == (math == "bf16")
    assert context.math() == "float32"  # as it was before the command
