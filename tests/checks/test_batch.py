"""Each fault that one batch shows is found by its code and by no other, with the layer in which it begins."""

import h5py
import numpy as np
import pytest

import minicaffe
from helpers.checked import (
    SOLVER,
    TESTS,
    assert_only,
    assert_sound,
    classifier,
    conv,
    data,
    database,
    found,
    images,
    loss,
    shuffled,
)
from helpers.nets import layer_text, net_from_text
from helpers.situations import ip
from minicaffe.core import random
from minicaffe.core.settings import settings
from minicaffe.data.mean import write_mean

EVEN = (50, 50, 50, 50)
SLOW = SOLVER.replace("base_lr: 0.01", "base_lr: 1e-9")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database("train", shuffled(EVEN))
    return tmp_path


def filler(kind, **values):
    return f'weight_filler {{ type: "{kind}" {" ".join(f"{k}: {v}" for k, v in values.items())} }}'


def gaussian(deviation):
    return filler("gaussian", std=deviation)


def relu(bottom, name="relu"):
    return layer_text(name, "ReLU", bottom, bottom)


def bn(bottom, more="", name="bn"):
    return layer_text(name, "BatchNorm", bottom, bottom, more)


def scale(bottom, more="", name="scale"):
    return layer_text(name, "Scale", bottom, bottom, f"scale_param {{ bias_term: true {more} }}")


def dummy(value, shape="dim: 10 dim: 12"):
    """Data that are constant, and labels 0."""
    return layer_text("data", "DummyData", "", "data label", f"""dummy_data_param {{ data_filler {{ value: {value} }}
        data_filler {{ value: 0 }} shape {{ {shape} }} shape {{ dim: 10 }} }}""")  # fmt: skip


def hdf5(**arrays):
    """The HDF5Data layer of a file with these arrays."""
    with h5py.File("train.h5", "w") as file:
        for key, values in arrays.items():
            file[key] = values
    with open("train.txt", "w") as file:
        file.write("train.h5\n")
    param = 'hdf5_data_param { source: "train.txt" batch_size: 10 }'
    return layer_text("data", "HDF5Data", "", " ".join(arrays), param)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def regression(factor=1.0, targets=1.0):
    """A net with EuclideanLoss on random data and targets that are multiplied by these factors."""
    layer = hdf5(data=normal(200, 12) * np.float32(factor), label=normal(200, 2, seed=1) * np.float32(targets))
    euclidean = layer_text("loss", "EuclideanLoss", "ip2 label", "loss")
    return layer + ip("ip1", "data", 8) + relu("ip1") + ip("ip2", "ip1", 2) + euclidean


def weights(net, factor=1, **layers):
    """A file with the weights of a net and the statistics of a batch, times a factor.

    layers: values of the first blobs of some layers, such as bn=[mean, variance, factor].
    """
    with random.seeded(3):
        own = net_from_text(net)
    own.forward()
    for blob in own.params.get("bn", ()):
        blob.data[...] *= factor
    for name, blobs in layers.items():
        for blob, values in zip(own.params[name], blobs):
            blob.data[...] = values
    own.save("start.caffemodel")
    return ["start.caffemodel"]


# -- losses ------------------------------------------------------------------------------------------------------------


def test_sound():
    assert_sound(found(data("train") + classifier()))


def test_fillers_too_small():
    small = gaussian(0.0001)
    net = data("train") + ip("ip1", "data", 8, small) + relu("ip1") + ip("ip2", "ip1", 8, small) + relu("ip2", "relu2")
    findings = found(net + ip("ip3", "ip2", 4, small) + loss("ip3"))
    assert_only(findings, "scores-alike", "the fillers are too small", "layer 'loss'")


def test_small_weights_in_the_first_layer_are_sound():
    pixels = "mean_value: 128"
    net = data("train", transform=pixels) + ip("ip1", "data", 16, gaussian(0.0001)) + relu("ip1")
    findings = found(net + ip("ip2", "ip1", 4, gaussian(0.1)) + loss("ip2"), SOLVER.replace("0.01", "0.0001"))
    assert not [each for each in findings if each.level != "info"]


@pytest.mark.parametrize("solver", [SLOW, SOLVER])
def test_loss_87(solver):
    net = data("train") + ip("ip1", "data", 8) + relu("ip1") + ip("ip2", "ip1", 4, gaussian(1000)) + loss("ip2")
    findings = found(net, solver)
    assert_only(findings, "loss-saturated", "values grow most in InnerProduct layer 'ip2'", "layer 'loss'")
    assert any("87.3365" in each.text for each in findings)


def test_first_loss_far_above_chance():
    net = data("train") + ip("ip1", "data", 8) + relu("ip1") + ip("ip2", "ip1", 4, gaussian(8)) + loss("ip2")
    assert_only(found(net, SLOW), "loss-far-above-chance", "1.386 (ln 4) is that of equal probabilities")


def test_a_sum_of_losses_is_not_far_above_chance():
    net = data("train") + ip("ip", "data", 4) + loss("ip", "loss_param { normalization: NONE }")
    assert_sound(found(net, SOLVER.replace("0.01", "0.0001")))


def test_all_labels_ignored():
    net = data(database("two", [2] * 200)) + classifier(4, "loss_param { ignore_label: 2 }")
    assert_only(found(net), "labels-all-ignored", "ignore_label 2", "layer 'loss'")


def test_loss_of_exactly_0():
    net = hdf5(data=normal(200, 12), label=np.ones((200, 2), np.float32))
    met = ip("ip", "data", 2, "bias_filler { value: 1 }")
    assert_only(found(net + met + layer_text("loss", "EuclideanLoss", "ip label", "loss")), "loss-zero", "exactly 0")


# -- values that are not finite ----------------------------------------------------------------------------------------


def test_regression():
    assert_sound(found(regression()))


def test_nan_in_the_data():
    values = normal(200, 12)
    values[3, 5] = np.nan
    net = hdf5(data=values, label=normal(200, 2)) + ip("ip", "data", 2)
    findings = found(net + layer_text("loss", "EuclideanLoss", "ip label", "loss"))
    assert_only(findings, "not-finite", "the data have nan", "layer 'data'")


def test_loss_of_huge_targets_is_infinite():
    assert_only(found(regression(targets=1e25)), "not-finite", "infinite values", "layer 'loss'")


def test_logarithm_of_negative_numbers():
    net = regression().replace('bottom: "ip2"', 'bottom: "log"')
    log = layer_text("log", "Log", "ip2", "log")
    net = net.replace('layer { name: "loss"', log + 'layer { name: "loss"')
    assert_only(found(net), "not-finite", "though its input is finite", "layer 'log'")


def test_weights_that_are_nan():
    net = regression()
    assert_only(found(net, weights=weights(net, ip1=[np.nan])), "not-finite", "in the weights", "layer 'ip1'")


def test_gradient_that_is_infinite():
    net = regression(targets=1e4).replace('top: "loss"', 'top: "loss" loss_weight: 1e38')
    assert_only(found(net), "gradient-not-finite", "bottom 'ip2'", "layer 'loss'")


def test_infinite_values_in_test_only():
    sources = database("test", shuffled(EVEN, 1))
    power = layer_text("exp", "Exp", "ip2", "exp", "include { phase: TEST } exp_param { scale: 1e6 }")
    silence = layer_text("silence", "Silence", "exp", "", "include { phase: TEST }")
    net = data("train", "TRAIN") + data(sources, "TEST") + classifier() + power + silence
    assert_only(found(net, SOLVER + TESTS), "test-not-finite", "infinite values", "layer 'exp' in TEST")


def test_regression_that_diverges():
    findings = found(regression(targets=1000, factor=100), SOLVER)
    assert_only(findings, "first-update-diverges", "scale targets and data to about 1", "base_lr")


def test_clipped_gradients_do_not_diverge():
    findings = found(regression(targets=1000, factor=100), SOLVER + "clip_gradients: 0.001")
    assert not [each for each in findings if each.level != "info"]


# -- zeros -------------------------------------------------------------------------------------------------------------


def test_dead_relu():
    below = ip("ip1", "data", 8, f"{filler('xavier')} bias_filler {{ value: -90 }}")
    net = data("train") + below + relu("ip1") + ip("ip2", "ip1", 4) + loss("ip2")
    assert_only(found(net), "dead-layer", "all values before this ReLU are 0 or below", "layer 'relu'")


def test_data_that_are_0():
    assert_only(found(dummy(0) + classifier()), "dead-layer", "the data are 0", "layer 'data'")


def test_batch_norm_of_equal_samples():
    net = dummy(3) + ip("ip1", "data", 8) + bn("ip1") + scale("ip1") + relu("ip1") + ip("ip2", "ip1", 4) + loss("ip2")
    findings = found(net)
    assert_only(findings, "dead-layer", "its input is the same for all samples", "layer 'bn'")


def test_scale_of_0_at_the_end_of_a_residual_branch_is_sound():
    branch = layer_text("conv2", "Convolution", "conv", "conv2",
                        f"convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 {gaussian(0.1)} }}")  # fmt: skip
    zero = scale("conv2", 'filler { type: "constant" value: 0 }', "zero")
    total = layer_text("sum", "Eltwise", "conv conv2", "sum")
    net = data("train") + conv("conv", "data") + branch + bn("conv2") + zero + total + relu("sum") + ip("ip", "sum", 4)
    assert_sound(found(net + loss("ip")))


def test_filler_that_gives_0():
    net = data("train") + ip("ip1", "data", 8, gaussian(0)) + relu("ip1") + ip("ip2", "ip1", 4) + loss("ip2")
    assert_only(found(net), "weights-zero", "the filler makes all weights 0", "layer 'ip1'")


def test_no_filler_is_found_once():
    net = data("train") + ip("ip1", "data", 8, "") + relu("ip1") + ip("ip2", "ip1", 4) + loss("ip2")
    assert_only(found(net), "no-weight-filler", where="layer 'ip1'")


def test_gradient_that_ends():
    threshold = layer_text("round", "Python", "ip1", "ip1b", 'python_param { module: "ends_here" layer: "Ends" }')
    with open("ends_here.py", "w") as file:
        file.write(
            "import caffe\nclass Ends(caffe.Layer):\n    def setup(self, bottom, top): pass\n"
            "    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)\n"
            "    def forward(self, bottom, top): top[0].data[...] = bottom[0].data\n"
            "    def backward(self, top, propagate_down, bottom): bottom[0].diff[...] = 0\n"
        )
    net = data("train") + ip("ip1", "data", 8) + threshold + ip("ip2", "ip1b", 4) + loss("ip2")
    assert_only(found(net), "gradient-zero", "so ip1 before it learn nothing", "layer 'round'")


# -- BatchNorm ---------------------------------------------------------------------------------------------------------

NORM = conv("conv", "data") + bn("conv") + scale("conv") + relu("conv") + ip("ip", "conv", 4) + loss("ip")


def both():
    return data("train", "TRAIN") + data(database("test", shuffled(EVEN, 1)), "TEST") + NORM


def test_batch_norm():
    assert_sound(found(both(), SOLVER + TESTS))


@pytest.mark.parametrize("factor", [1, 0.5, 900])
def test_statistics_are_divided_by_their_factor(factor):
    net = both()
    assert_sound(found(net, SOLVER + TESTS, weights(net, factor)))


@pytest.mark.parametrize("blobs", [[0, 0, 0], [0, 0, 1]])
def test_statistics_that_were_never_trained(blobs):
    net = both()
    findings = found(net, SOLVER + TESTS, weights(net, bn=blobs))
    assert_only(findings, "batch-norm-no-statistics", "the input times 316.2 (1 / sqrt(eps 1e-05))", "layer 'bn'")


def test_new_batch_norm_in_fine_tuning_is_sound():
    net = both()
    files = weights(net.replace('name: "bn"', 'name: "another"'))
    assert_sound(found(net, SOLVER + TESTS, files))


@pytest.mark.parametrize(("blobs", "text"), [([5, 0.5, 1], "the means differ"), ([0, 500, 1], "by a factor of")])
def test_statistics_of_other_data(blobs, text):
    net = both()
    findings = found(net, SOLVER + TESTS, weights(net, bn=blobs))
    assert_only(findings, "batch-norm-far", text, "layer 'bn'")


def test_five_blobs_with_a_scale_of_0():
    net = both()
    findings = found(net, SOLVER + TESTS, weights(net, scale=[0, 0]))
    assert_only(findings, "weights-zero", "the scales in the weights are all 0", "layer 'scale'")


def test_lr_mult_of_statistics():
    net = data("train") + conv("conv", "data") + bn("conv", "param { lr_mult: 1 }") + ip("ip", "conv", 4) + loss("ip")
    assert_only(found(net), "batch-norm-learned", where="layer 'bn'")


@pytest.mark.parametrize(
    ("phase", "value", "code"), [("TRAIN", "true", "batch-norm-untrained"), ("TEST", "false", "batch-norm-test-batch")]
)
def test_use_global_stats_is_found_once(phase, value, code):
    other = {"TRAIN": "TEST", "TEST": "TRAIN"}[phase]
    norms = bn("conv", f"include {{ phase: {phase} }} batch_norm_param {{ use_global_stats: {value} }}") + bn(
        "conv", f"include {{ phase: {other} }}"
    )
    assert_only(found(both().replace(bn("conv"), norms), SOLVER + TESTS), code, where="layer 'bn'")


# -- data --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [SLOW, SOLVER])
@pytest.mark.parametrize("transform", ["", "scale: 0.5"])
def test_data_without_mean(transform, solver):
    findings = found(data("train", transform=transform) + classifier(), solver)
    assert_only(findings, "data-not-centred", "write mean_file or mean_value", "layer 'data'")


@pytest.mark.parametrize("transform", ["scale: 0.0039", "mean_value: 128", 'mean_file: "mean.binaryproto"'])
def test_scaled_or_centred_data(transform):
    write_mean("mean.binaryproto", images(200).mean(0))
    findings = found(data("train", transform=transform) + classifier(), SLOW)
    assert "data-not-centred" not in {each.code for each in findings}


def test_data_that_a_layer_centres():
    power = layer_text("centre", "Power", "data", "data", "power_param { shift: -2 scale: 0.0156 }")
    assert_sound(found(data("train", transform="") + power + classifier()))


def test_data_that_a_batch_norm_centres():
    norm = bn("data", name="data_bn")
    assert_sound(found(data("train", transform="") + norm + classifier()))


# -- engines -----------------------------------------------------------------------------------------------------------


def test_engines(engine):
    """The passes are those of the engine in use; what is found does not depend on it."""
    sound = data("train", "TRAIN") + data("train", "TEST") + NORM
    assert_sound(found(sound, SOLVER + TESTS), "same-source")
    assert_only(found(sound, SOLVER + TESTS, weights(sound, bn=[5, 0.5, 1])), "batch-norm-far", where="layer 'bn'")
    large = data("train") + ip("ip1", "data", 8) + relu("ip1") + ip("ip2", "ip1", 4, gaussian(1000)) + loss("ip2")
    assert_only(found(large, SLOW), "loss-saturated", "layer 'ip2'")
    below = ip("ip1", "data", 8, f"{filler('xavier')} bias_filler {{ value: -90 }}")
    dead = data("train") + below + relu("ip1") + ip("ip2", "ip1", 4) + loss("ip2")
    assert_only(found(dead), "dead-layer", where="layer 'relu'")
    assert_only(found(regression(targets=1000, factor=100)), "first-update-diverges")


# -- what it leaves as it was ------------------------------------------------------------------------------------------


def test_settings_and_seeds_stay():
    random.set_random_seed(7)
    expected = random.new_stream().get_state(), random.new_stream().get_state()
    random.set_random_seed(7)
    before = random.new_stream().get_state(), settings.engine, settings.variants
    found(data("train") + classifier())
    assert (before[0], random.new_stream().get_state()) == expected
    assert before[1:] == (settings.engine, settings.variants)


def test_no_file_is_written(folder):
    output = layer_text("out", "HDF5Output", "ip2 label", "", 'hdf5_output_param { file_name: "out.h5" }')
    net = data("train") + classifier() + output
    assert_sound(found(net))  # compares the list of files before and after
    assert not (folder / "out.h5").exists()


@pytest.mark.parametrize("kind", ["Input", "MemoryData"])
def test_data_from_a_script(kind):
    shapes = "input_param { shape { dim: 10 dim: 12 } shape { dim: 10 } }"
    memory = "memory_data_param { batch_size: 10 channels: 3 height: 2 width: 2 }"
    net = layer_text("data", kind, "", "data label", shapes if kind == "Input" else memory) + classifier()
    assert_sound(found(net))


def test_net_that_cannot_be_built():
    net = data("train") + ip("ip", "data", 4) + layer_text("pool", "Pooling", "ip", "pool") + loss("pool")
    assert_only(found(net), "net-invalid", "pool")


def test_bad_label_that_a_layer_computes(engine):
    """The data stage does not follow such labels: one out of range is an error of the pass."""
    power = layer_text("shift", "Power", "label", "shifted", "power_param { shift: 3 }")
    net = data("train") + power + ip("ip", "data", 4) + loss("ip", label="shifted")
    assert_only(found(net), "net-invalid", "out of range")


def test_findings_are_the_same_again():
    net = data("train") + classifier()
    assert found(net) == found(net)
    assert minicaffe.check("solver.prototxt") == found(net)
