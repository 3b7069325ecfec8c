"""`minicaffe calibrate`."""

import re

import pytest

import minicaffe

BATCH_NORM = 'layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }\n'
BEHIND = 'layer { name: "drop"'


@pytest.fixture
def weights(project, run):
    """The project's net with a BatchNorm, trained."""
    text = (project / "net.prototxt").read_text()
    (project / "net.prototxt").write_text(text.replace(BEHIND, BATCH_NORM + BEHIND))
    assert run("train", "--solver", "solver.prototxt")[0] == 0
    return "tiny_iter_8.caffemodel.h5"


def test_statistics_are_written_and_compared(project, run, weights):
    words = ("calibrate", "--solver", "solver.prototxt", "--weights", weights, "out.caffemodel", "--iterations", "5")
    status, out, log = run(*words, "--test")
    assert status == 0
    head, layer, accuracy, loss, last = out.splitlines()
    assert head.split() == "layer channels mean off by old variance / new".split()
    assert re.fullmatch(r"bn +4 +[\d.e-]+ std  [\d.]+ to [\d.]+", layer)
    assert re.fullmatch(r"test net #0, accuracy: [\d.]+ before, [\d.]+ after", accuracy)
    assert re.fullmatch(r"test net #0, loss: [\d.]+ before, [\d.]+ after", loss)
    assert last == "out.caffemodel: statistics of 1 layer(s), from 5 batches"
    assert log.count("Running for 2 iterations.") == 2
    net = minicaffe.Net("net.prototxt", phase=minicaffe.TEST, weights="out.caffemodel")
    assert net.params["bn"][2].data == 1
    assert run("train", "--solver", "solver.prototxt", "--weights", "out.caffemodel")[0] == 0


def test_layer_after_layer(project, run, weights):
    words = ("calibrate", "--solver", "solver.prototxt", "--weights", weights, "out.h5", "--iterations", "2")
    assert run(*words, "--sequential")[0] == 0
    with open("out.h5", "rb") as file:
        assert file.read(4) == b"\x89HDF"


def test_stages_of_the_training_net(project, run, weights):
    text = (project / "net.prototxt").read_text()
    (project / "net.prototxt").write_text(text.replace('name: "bn"', 'name: "bn" include { stage: "norm" }'))
    words = ("calibrate", "--solver", "solver.prototxt", "--weights", weights, "out.caffemodel", "--iterations", "2")
    assert "has no layer whose statistics training updates" in run(*words)[2]
    assert run(*words, "--stage", "norm")[0] == 0


def test_the_device_of_the_solver(project, run, weights, monkeypatch):
    from minicaffe.cuda import context

    monkeypatch.setattr(context, "device_count", lambda: 0)
    with open("solver.prototxt", "a") as file:
        file.write(" solver_mode: GPU")
    words = ("calibrate", "--solver", "solver.prototxt", "--weights", weights, "out.caffemodel", "--iterations", "2")
    status, _, err = run(*words, "--gpu", "none")
    assert status == 0 and "NO GPU" not in err
    status, _, err = run(*words)
    assert status == 0 and err.count("NO GPU") == 1


def test_layers_that_had_none_and_frozen_ones(project, run, weights):
    text = (project / "net.prototxt").read_text()
    (project / "net.prototxt").write_text(text.replace(BATCH_NORM, ""))
    assert run("train", "--solver", "solver.prototxt")[0] == 0
    frozen = BATCH_NORM.replace('"bn"', '"still"').replace(
        "bottom:", "batch_norm_param { use_global_stats: true } bottom:"
    )
    (project / "net.prototxt").write_text(text.replace(BATCH_NORM, BATCH_NORM + frozen))
    words = ("calibrate", "--solver", "solver.prototxt", "--weights", weights, "out.caffemodel", "--iterations", "2")
    status, out, log = run(*words)
    assert status == 0
    assert "bn            4     none before" in out
    assert "still  keeps its statistics: use_global_stats is true in training" in out
    assert "not in the file: bn, still" in log or "not in the files: bn, still" in log


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"--solver": None}, "need a solver definition, for the training net: give -solver FILE"),
        ({"--weights": None}, "need trained weights: give -weights FILE"),
        ({"--weights": "none.caffemodel"}, "there is no file 'none.caffemodel'"),
        ({"--iterations": None}, "give the number of batches (--iterations)"),
        ({"--iterations": "0"}, "expected a number of batches above 0, got 0"),
        ({"OUT": "missing/out.caffemodel"}, "cannot write 'missing/out.caffemodel'"),
    ],
)
def test_errors(project, run, weights, change, expected):
    flags = {
        "OUT": "out.caffemodel",
        "--solver": "solver.prototxt",
        "--weights": weights,
        "--iterations": "2",
        **change,
    }
    out = flags.pop("OUT")
    status, _, err = run("calibrate", *(word for pair in flags.items() if pair[1] for word in pair), out)
    assert status == 1 and expected in err and "Traceback" not in err
    assert not (project / "out.caffemodel").exists()


def test_a_net_without_batch_norm(project, run):
    assert run("train", "--solver", "solver.prototxt")[0] == 0
    words = ("calibrate", "--solver", "solver.prototxt", "--weights", "tiny_iter_8.caffemodel.h5", "out.caffemodel")
    status, _, err = run(*words)
    assert status == 1 and "net 'tiny' has no layer whose statistics training updates" in err
