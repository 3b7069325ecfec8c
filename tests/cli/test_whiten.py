"""`minicaffe whiten` and tools/whiten.py: files, databases, nets, pictures; errors; what an interruption leaves."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minicaffe
from helpers.readers import write_images
from minicaffe.cli import main
from minicaffe.data import datum_to_array, open_db, whitening_database
from minicaffe.data.whitening_file import read_whitening
from minicaffe.proto import caffe_pb2

ROOT = Path(minicaffe.__file__).resolve().parent.parent
NET = """
name: "small"
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { mean_value: 128 } data_param { source: "train" backend: LMDB batch_size: 20 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = 'net: "white.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 4 display: 1 snapshot_prefix: "s"'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two databases, a net and its solver in the working directory."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (120, 3, 6, 5), np.uint8)
    write_images("train", images, 3)
    write_images("test", images[:30] // 2, 3)
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)
    return tmp_path


def values_of(path):
    with open_db(path) as database:
        return np.stack([datum_to_array(caffe_pb2.Datum.FromString(bytes(value))) for _, value in database.items()])


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_databases_of_training_and_test(folder, run):
    status, out, err = run("whiten", "train", "zca.h5", "--write_db", "train_white")
    assert status == 0
    assert out.splitlines()[1:] == ["Wrote zca.h5", "Wrote 120 images to train_white"]
    assert out.startswith("Eigenvalues of 120 vectors of 90 values: ")
    lines = [f"{name}  100%  120/120  SPEED images/s" for name in ("train", "train_white")]
    assert re.sub(r"[\d,.]+(?= images/s)", "SPEED", err).splitlines() == lines
    flat = values_of("train_white").reshape(120, -1).astype(np.float64)
    assert np.abs(np.cov(flat, rowvar=False) - np.eye(90)).max() < 1e-5
    status, out, _ = run("whiten", "test", "zca.h5", "--apply", "--write_db=test_white")
    assert (status, out) == (0, "Wrote 30 images to test_white\n")
    assert np.array_equal(
        values_of("test_white"), read_whitening("zca.h5").transform(values_of("test")).astype(np.float32)
    )


@pytest.mark.parametrize("weights", ["white.caffemodel", "white.caffemodel.h5"])
def test_a_net_that_trains(folder, run, weights):
    words = ["--kind", "zca", "--patch", 3, "--eps", "0.5", "--into-net", "net.prototxt", "white.prototxt", weights]
    status, out, _ = run("whiten", "train", "w.h5", *words)
    assert status == 0 and out.splitlines()[2:] == [
        "Removed mean_value from layer 'data'",
        f"Wrote white.prototxt with the layers whiten_mean, whiten, and their weights to {weights}",
    ]
    status, out, err = run("train", "--solver", "solver.prototxt", "--weights", weights)
    assert status == 0, err


@pytest.mark.parametrize("kind", ["mean", "std", "pca", "zca", "pca --patch 3", "zca --patch 3", "zca --per_channel"])
@pytest.mark.parametrize("rgb", [[], ["--rgb"]], ids=["bgr", "rgb"])
def test_pictures(folder, run, kind, rgb):
    status, out, err = run("whiten", "train", "w.h5", "--kind", *kind.split(), "--picture", "w.png", *rgb)
    assert status == 0 and out.endswith("Drew filters and images to w.png\n"), err
    with Image.open("w.png") as picture:
        assert picture.size == (1350, 1350) and len(np.unique(np.asarray(picture))) > 100


def test_a_picture_of_no_images(folder, run):
    write_images("empty", [])
    assert run("whiten", "train", "a.h5", "--kind", "std")[0] == 0
    status, _, err = run("whiten", "empty", "a.h5", "--apply", "--picture", "a.png")
    assert (status, err) == (1, "minicaffe: database empty holds no records, so there is no image to draw\n")


def test_the_script_is_the_command(folder):
    script = [sys.executable, ROOT / "tools" / "whiten.py", "train", "a.h5", "--kind", "std"]
    done = subprocess.run(script, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0 and "Wrote a.h5" in done.stdout, done.stderr
    assert main(["whiten", "train", "b.h5", "--kind", "std"]) == 0
    assert np.array_equal(read_whitening("a.h5").matrix, read_whitening("b.h5").matrix)


@pytest.mark.parametrize(
    "words, message",
    [
        ("none a.h5", "LMDB none does not exist"),
        ("train none/a.h5", "cannot write 'none/a.h5': No such file or directory"),
        ("train a.h5 --kind ica", "argument --kind: invalid choice: 'ica'"),
        ("train a.h5 --components 3", "components are kept of kind pca, not of kind zca"),
        ("train a.h5 --kind zca --patch 4", "a patch of a ZCA has a centre, so its side is odd, got 4"),
        ("train a.h5 --kind pca --components 91", "a vector of train has 90 components, got components 91"),
        ("test a.h5", "the covariance of test has rank 29 of 90"),
        ("train a.h5 --apply --write_db b", "HDF5 file a.h5 does not exist"),
        (
            "train a.h5 --apply",
            "--apply makes a database, a net or a picture: give --write_db, --into_net or --picture",
        ),
        ("train a.h5 --apply --eps 1 --write_db b", "takes the statistics of a.h5 as they are: leave out --eps"),
        ("train a.h5 --write_db test", "test exists already: remove it first, or choose another name"),
        ("train a.h5 --write_db none/b", "cannot write database none/b: folder"),
        ("train a.h5 --picture none/a.png", "cannot write 'none/a.png': No such file or directory"),
        ("train a.h5 --blob data", "--blob is the blob of --into_net: give both"),
        ("train a.h5 --into_net none.prototxt b.prototxt b.caffemodel", "cannot read 'none.prototxt'"),
        ("train a.h5 --into_net net.prototxt b.prototxt", "expected 3 arguments"),
    ],
)
def test_errors_are_one_sentence_and_leave_nothing(folder, run, words, message):
    before = left(folder)
    status, _, err = run("whiten", *words.split())
    last = err.splitlines()[-1]
    assert status == 1 and last.startswith("minicaffe: ") and message in last
    assert left(folder) == before


@pytest.mark.parametrize(
    "words, message",
    [
        ("--picture a.txt", "'a.txt' must end in a format that can be written, such as .png or .svg"),
        ("--into_net net.prototxt b.prototxt c --blob x", "net 'small' has no data layer with a top 'x'"),
        ("--write_db white --blob x --into_net net.prototxt b.prototxt c", "net 'small' has no data layer with a top"),
    ],
)
def test_errors_of_what_is_made_come_before_anything_is_computed(folder, run, words, message):
    before = left(folder)
    status, _, err = run("whiten", "train", "a.h5", *words.split())
    assert status == 1 and message in err.splitlines()[-1]
    assert left(folder) == before


def test_an_interruption_leaves_no_half_file(folder, run, monkeypatch):
    before = left(folder)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(whitening_database, "_solve", interrupted)
        assert run("whiten", "train", "zca.h5", "--write_db", "white")[0] == 130
    assert left(folder) == before
    with monkeypatch.context() as patch:
        patch.setattr(whitening_database, "array_to_datum", interrupted)
        assert run("whiten", "train", "zca.h5", "--write_db", "white")[0] == 130
    assert left(folder) == sorted([*before, "zca.h5"])
