"""Weights of BatchNorm in two forms: five blobs in one layer (NVIDIA), or three blobs and a Scale with two (BVLC)."""

import h5py
import numpy as np
import pytest

from helpers.nets import net_from_text
from minicaffe.errors import SnapshotError
from minicaffe.proto import caffe_pb2
from minicaffe.proto.convert import upgrade_net_proto_text

C = 4
MEAN, VARIANCE, SCALE, SHIFT = np.random.default_rng(3).standard_normal((4, C)).astype(np.float32)
VARIANCE = np.abs(VARIANCE) + np.float32(0.5)
ONE = np.ones(1, np.float32)
THREE, TWO = (MEAN, VARIANCE, ONE), (SCALE, SHIFT)
FIVE, OLDER = THREE + TWO, (SCALE, SHIFT, ONE, MEAN - 9, VARIANCE)

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 4, 3, 3] } } }'
BN = 'layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" batch_norm_param { eps: 1e-5 %s } }'
SCALE_LAYER = 'layer { name: "%s" type: "Scale" bottom: "bn" top: "out" scale_param { bias_term: true } }'
RELU = 'layer { name: "relu" type: "ReLU" bottom: "bn" top: "relu" }'
BVLC = INPUT + BN % "" + SCALE_LAYER % "bn/scale"
NVIDIA = INPUT + BN % "scale_bias: true"


def net(text, phase=1):
    return net_from_text(text, phase)


def file_of(path, form, **layers):
    """Write a file of weights; each layer is name=(type, blobs) or name=(type, blobs, bottom, top)."""
    if form == "hdf5":
        with h5py.File(path, "w") as file:
            for name, (_, blobs, *_) in layers.items():
                group = file.require_group("data").require_group(name.replace("__", "/"))
                for j, blob in enumerate(blobs):
                    group[str(j)] = blob
        return path
    param = caffe_pb2.NetParameter()
    for name, (kind, blobs, *ends) in layers.items():
        layer = param.layer.add(name=name.replace("__", "/"), type=kind, bottom=ends[:1], top=ends[1:])
        for values in blobs:
            layer.blobs.add(data=values.ravel()).shape.dim.extend(values.shape)
    path.write_bytes(param.SerializeToString())
    return path


def check(made, mean=MEAN):
    x = np.random.default_rng(4).standard_normal((2, C, 3, 3)).astype(np.float32)
    mean, variance, scale, shift = (v.reshape(1, C, 1, 1) for v in (mean, VARIANCE, SCALE, SHIFT))
    expected = (x - mean) / np.sqrt(variance + 1e-5) * scale + shift
    made.blobs["data"].data[...] = x
    np.testing.assert_allclose(made.forward()[made.outputs[0]], expected, rtol=1e-4, atol=1e-4)


# -- five blobs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["binary", "hdf5"])
@pytest.mark.parametrize("text", [BVLC, BVLC.replace('"out"', '"bn"'), NVIDIA], ids=["bvlc", "in place", "nvidia"])
@pytest.mark.parametrize("blobs, mean", [(FIVE, MEAN), (OLDER, MEAN - 9)], ids=["today", "older order"])
def test_five_blobs_go_to_batch_norm_and_scale(tmp_path, form, text, blobs, mean):
    made = net(text)
    made.copy_from(file_of(tmp_path / "w", form, bn=("BatchNorm", blobs)))
    check(made, mean)


def test_five_blobs_of_four_axes_in_hdf5(tmp_path):
    made = net(BVLC)
    blobs = [blob.reshape(1, -1, 1, 1) if blob.size > 1 else blob for blob in FIVE]
    made.copy_from(file_of(tmp_path / "w", "hdf5", bn=("BatchNorm", blobs)))
    check(made)


@pytest.mark.parametrize("form", ["binary", "hdf5"])
@pytest.mark.parametrize(
    "text",
    [
        INPUT + BN % "",
        INPUT + BN % "" + RELU,
        INPUT + BN % "" + (SCALE_LAYER % "s").replace("true", "false"),
        INPUT + BN % "" + RELU.replace('"relu" }', '"bn" }') + SCALE_LAYER % "s",
        INPUT + BN % "" + SCALE_LAYER % "s" + RELU,
    ],
    ids=["alone", "relu", "no shift", "relu between", "another reader"],
)
def test_five_blobs_without_a_place_for_all_are_refused(tmp_path, form, text):
    path = file_of(tmp_path / "w", form, bn=("BatchNorm", FIVE))
    with pytest.raises(SnapshotError, match="'bn' has another number of blobs: the net expects 3, the file has 5"):
        net(text).copy_from(path)


@pytest.mark.parametrize("form", ["binary", "hdf5"])
def test_a_scale_that_has_weights_of_its_own_takes_no_others(tmp_path, form):
    path = file_of(tmp_path / "w", form, bn=("BatchNorm", FIVE), bn__scale=("Scale", TWO))
    with pytest.raises(SnapshotError, match="expects 3, the file has 5"):
        net(BVLC).copy_from(path)


# -- three blobs and two -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wired", [True, False])
def test_batch_norm_and_scale_go_to_one_layer(tmp_path, wired):
    made = net(NVIDIA)
    ends = (("data", "bn"), ("bn", "bn")) if wired else ((), ())
    layers = {"bn": ("BatchNorm", THREE, *ends[0]), "s": ("Scale", TWO, *ends[1])}
    made.copy_from(file_of(tmp_path / "w", "binary", **layers))
    check(made)


def test_a_bvlc_net_saved_and_loaded_by_the_other_form(tmp_path):
    made, other = net(BVLC), net(NVIDIA)
    for blob, values in zip([*made.params["bn"], *made.params["bn/scale"]], FIVE):
        blob.data = values
    made.save(tmp_path / "w")
    other.copy_from(tmp_path / "w")
    check(other)
    made = net(BVLC)
    other.save(tmp_path / "v")  # recognised as one layer, whatever the name of the Scale
    made.copy_from(tmp_path / "v")
    check(made)
    with pytest.raises(SnapshotError, match="expects 3, the file has 5"):
        net(INPUT + BN % "").copy_from(tmp_path / "v")


@pytest.mark.parametrize(
    "form, layers",
    [
        ("hdf5", {"bn": ("BatchNorm", THREE), "s": ("Scale", TWO)}),
        ("binary", {"bn": ("BatchNorm", THREE)}),
        ("binary", {"bn": ("BatchNorm", THREE, "data", "bn"), "s": ("Scale", TWO, "other", "other")}),
        ("binary", {"bn": ("BatchNorm", THREE), "s": ("Scale", TWO[:1])}),
        ("binary", {"bn": ("BatchNorm", THREE), "ip": ("InnerProduct", TWO)}),
    ],
    ids=["hdf5 has no wiring", "no scale", "elsewhere", "no shift", "another type"],
)
def test_three_blobs_without_scale_and_shift_are_refused(tmp_path, form, layers):
    path = file_of(tmp_path / "w", form, **layers)
    with pytest.raises(SnapshotError, match="'bn' has another number of blobs: the net expects 5, the file has 3"):
        net(NVIDIA).copy_from(path)


@pytest.mark.parametrize("form", ["binary", "hdf5"])
def test_nvidia_form_round_trip(tmp_path, form):
    made, other = net(NVIDIA), net(NVIDIA)
    for blob, values in zip([blob for blobs in made.params.values() for blob in blobs], FIVE):
        blob.data = values
    made.save(tmp_path / "w") if form == "binary" else made.save_hdf5(tmp_path / "w")
    other.copy_from(tmp_path / "w")
    check(other)


# -- the same form in file and net -------------------------------------------------------------------------------------


def test_between_two_nets_of_bvlc_names_decide(tmp_path, caplog):
    """A Scale with another name keeps the values of its filler, as in Caffe, with a warning."""
    made = net(INPUT + BN % "" + SCALE_LAYER % "bn_scale")
    layers = {"bn": ("BatchNorm", THREE, "data", "bn"), "s": ("Scale", TWO, "bn", "bn")}
    made.copy_from(file_of(tmp_path / "w", "binary", **layers))
    assert made.params["bn_scale"][0].data.tolist() == [1] * C
    assert caplog.messages[-1].endswith("not in the file: bn_scale; not in the net: s")


def test_upgraded_text_has_no_field_of_our_own(tmp_path):
    (tmp_path / "nv.prototxt").write_text(NVIDIA)
    upgrade_net_proto_text(tmp_path / "nv.prototxt", tmp_path / "new.prototxt")
    text = (tmp_path / "new.prototxt").read_text()
    assert "bias_term: true" in text and "of_batch_norm" not in text
