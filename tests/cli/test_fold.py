"""`minicaffe fold`: what is printed and written, and what is refused."""

import numpy as np
import pytest

from helpers.foldable import BN, CONV, PLAIN, RELU, SCALE, data, net_of, outputs
from helpers.nets import layer_text
from minicaffe import TEST, Net


@pytest.mark.parametrize("ending", ["caffemodel", "caffemodel.h5"])
@pytest.mark.parametrize("out", ["out", "out.prototxt", "out.caffemodel"])
def test_command(run, tmp_path, monkeypatch, ending, out):
    monkeypatch.chdir(tmp_path)
    train = layer_text("noise", "ReLU", "data", "data", "include { phase: TRAIN }")
    net = net_of(train, PLAIN, BN, SCALE, layer_text("drop", "Dropout", "conv", "conv"), RELU,
                 layer_text("bn2", "BatchNorm", "conv", "out", "include { phase: TEST }"))  # fmt: skip
    (tmp_path / "net.prototxt").write_text(data() + train + PLAIN + BN + SCALE + "".join(
        (layer_text("drop", "Dropout", "conv", "conv"), RELU,
         layer_text("bn2", "BatchNorm", "conv", "out", "include { phase: TEST }"))
    ))  # fmt: skip
    (net.save_hdf5 if ending.endswith("h5") else net.save)(f"net.{ending}")
    status, printed, log = run("fold", "net.prototxt", f"net.{ending}", out, "--verbose")
    assert (status, log) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["net.prototxt", f"net.{ending}", "out.prototxt", f"out.{ending}"]
    )
    lines = printed.splitlines()
    assert lines[0] == "net: 7 layers before, 4 after"
    assert "folded: 1 BatchNorm into Convolution" in lines and "  Scale 'scale' into Convolution 'conv'" in lines
    assert "dropped: Dropout 'drop'" in lines
    assert "stays: BatchNorm 'bn2': it follows ReLU 'relu', which has no weights to take it up" in lines
    assert lines[-2:] == ["wrote out.prototxt", f"wrote out.{ending}"]
    folded = Net("out.prototxt", f"out.{ending}", TEST)
    old, new = outputs(net), outputs(folded)
    np.testing.assert_allclose(new["out"], old["out"], rtol=0, atol=2e-6 * np.abs(old["out"]).max())


def test_command_refuses(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(data() + CONV + BN)
    net_of(CONV, BN).save("net.caffemodel")
    for out, words in (("net", "it would overwrite 'net.prototxt'"), ("a/b", "cannot write 'a/b.prototxt'"),
                       ("a/", "expected a name for the files to write, got 'a/'")):  # fmt: skip
        status, printed, log = run("fold", "net.prototxt", "net.caffemodel", out)
        assert (status, printed) == (1, "") and words in log
    status, printed, log = run("fold", "net.prototxt", "net.caffemodel", "out", "--limit", "1e-10")
    assert (status, printed) == (1, "") and "the limit is 1e-09" in log
    status, printed, log = run("fold", "absent.prototxt", "net.caffemodel", "out")
    assert status == 1 and "cannot read 'absent.prototxt'" in log
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.caffemodel", "net.prototxt"]
