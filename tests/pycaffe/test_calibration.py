"""`minicaffe.calibration` against numpy, in float64, on small training sets."""

import numpy as np
import pytest

import minicaffe
from helpers.nets import layer_text, solver_from_text
from helpers.readers import write_images
from minicaffe.calibration import Calibration, calibrate
from minicaffe.errors import NetError, SnapshotError, UsageError
from minicaffe.proto import caffe_pb2, parse_text

SOLVER = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 3 random_seed: 1 snapshot_prefix: "small"'
DATA = """layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  data_param { source: "train" batch_size: 4 backend: LMDB } }
layer { name: "test" type: "Data" top: "data" top: "label" include { phase: TEST }
  data_param { source: "train" batch_size: 5 backend: LMDB } }
"""
BN1 = layer_text("bn1", "BatchNorm", "data", "bn1")
RELU = layer_text("relu", "ReLU", "bn1", "bn1")
BN2 = layer_text("bn2", "BatchNorm", "bn1", "bn1")
LOSS = """layer { name: "ip" type: "InnerProduct" bottom: "bn1" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
NET = DATA + BN1 + RELU + BN2 + LOSS


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Ten images (C, H, W) = (3, 4, 5), far from each other, in the database `train` of the working directory."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    images = random.normal(random.uniform(20, 230, (10, 3, 1, 1)), 9, (10, 3, 4, 5)).clip(0, 255).astype(np.uint8)
    write_images("train", images, labels=3)
    return images.astype(float)


def param(net, **fields):
    solver = parse_text(SOLVER, caffe_pb2.SolverParameter(**fields))
    parse_text(net, solver.net_param)
    return solver


def trained(net=NET, steps=3):
    """Train, and return the name of the weights."""
    solver = solver_from_text(SOLVER, net)
    solver.step(steps)
    solver.net.save("trained.caffemodel")
    return "trained.caffemodel"


def population(x):
    """The mean of each channel of all values, and the unbiased variance."""
    return x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)


def normalized(x, mean, variance):
    return (x - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)


def by_batches(x, size=4):
    """Normalise with each batch's own statistics; the last batch is filled with the first samples."""
    count = len(x)
    x = np.concatenate([x, x[: -count % size]])
    batches = [x[i : i + size] for i in range(0, len(x), size)]
    return np.concatenate([normalized(b, b.mean((0, 2, 3)), b.var((0, 2, 3))) for b in batches])[:count]


def assert_statistics(change, expected):
    for got, wanted in zip((change.new_mean, change.new_variance), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


# -- the numbers -------------------------------------------------------------------------------------------------------


def test_each_record_counts_once(images, engine):
    changes = calibrate(param(NET), trained(), "out.caffemodel")
    assert [change.name for change in changes] == ["bn1", "bn2"]
    assert_statistics(changes[0], population(images))
    assert_statistics(changes[1], population(np.maximum(by_batches(images), 0)))


def test_layer_after_layer(images, engine):
    changes = calibrate(param(NET), trained(), "out.caffemodel", sequential=True)
    first = population(images)
    assert_statistics(changes[0], first)
    assert_statistics(changes[1], population(np.maximum(normalized(images, *first), 0)))


def test_a_number_of_batches_counts_all_their_records(images):
    (change, _) = calibrate(param(NET), trained(), "out.caffemodel", iterations=4)
    assert_statistics(change, population(np.concatenate([images, images[:6]])))


def test_the_blobs_hold_mean_variance_and_one(images):
    (change, _) = calibrate(param(NET), trained(), "out.caffemodel")
    net = minicaffe.Net(param(NET).net_param, phase=minicaffe.TEST, weights="out.caffemodel")
    mean, variance, factor = (blob.data for blob in net.params["bn1"])
    assert factor == 1 and (mean == change.new_mean).all() and (variance == change.new_variance).all()
    x = images[:5]
    net.forward(end="bn1")
    np.testing.assert_allclose(net.blobs["bn1"].data, normalized(x, *population(images)), rtol=1e-5, atol=1e-5)


def test_shuffled_records_count_once(images):
    net = NET.replace("batch_size: 4", "batch_size: 4 shuffle: true", 1)
    assert_statistics(calibrate(param(net), trained(), "out.caffemodel")[0], population(images))


def test_images_of_a_list_count_once(images):
    from PIL import Image

    for i, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)[..., ::-1].astype(np.uint8)).save(f"{i}.png")
    with open("list.txt", "w") as file:
        file.writelines(f"{i}.png {i % 3}\n" for i in range(10))
    source = """layer { name: "data" type: "ImageData" top: "data" top: "label"
      image_data_param { source: "list.txt" batch_size: 4 shuffle: true rand_skip: 9 } }"""
    net = source + BN1 + RELU + BN2 + LOSS
    assert_statistics(calibrate(param(net), trained(net, 1), "out.caffemodel")[0], population(images))


def test_the_training_transform_applies(images):
    net = NET.replace("data_param", "transform_param { scale: 0.5 mirror: true } data_param", 1)
    assert_statistics(calibrate(param(net), trained(net), "out.caffemodel")[0], population(images / 2))


def test_distances_from_the_running_averages(images):
    change = calibrate(param(NET), trained(), "out.caffemodel")[0]
    weights = [0.999**2, 0.999, 1]
    batches = [np.take(images, range(i, i + 4), 0, mode="wrap") for i in (0, 4, 8)]
    means = np.average([b.mean((0, 2, 3)) for b in batches], 0, weights)
    variances = np.average([b.var((0, 2, 3), ddof=1) for b in batches], 0, weights)
    mean, variance = population(images)
    assert change.had_statistics
    assert change.mean_error == pytest.approx((abs(means - mean) / np.sqrt(variance)).max(), rel=1e-4)
    ratios = variances / variance
    assert change.variance_ratios == pytest.approx((ratios.min(), ratios.max()), rel=1e-4)


def test_layers_without_statistics_before(images):
    changes = calibrate(param(NET), trained(steps=0), "out.caffemodel")
    assert not any(change.had_statistics for change in changes)
    assert_statistics(changes[0], population(images))


# -- kinds of layers ---------------------------------------------------------------------------------------------------


def test_layers_that_share_their_statistics_count_together(images):
    names = "".join(f'param {{ name: "{name}" }} ' for name in "mvf")
    net = (
        DATA
        + layer_text("power", "Power", "data", "power", "power_param { scale: 2 }")
        + layer_text("bn1", "BatchNorm", "data", "bn1", names)
        + layer_text("bn2", "BatchNorm", "power", "bn2", names)
        + layer_text("silence", "Silence", "bn2", "")
        + LOSS
    )
    both = population(np.concatenate([images, 2 * images]))
    for sequential in (False, True):
        changes = calibrate(param(net), trained(net), "out.caffemodel", sequential=sequential)
        for change in changes:
            assert_statistics(change, both)


def test_layers_behind_each_other_that_share_their_statistics(images):
    names = "".join(f'param {{ name: "{name}" }} ' for name in "mvf")
    net = DATA + layer_text("bn1", "BatchNorm", "data", "bn1", names)
    net += layer_text("bn2", "BatchNorm", "bn1", "bn1", names) + LOSS
    calibration = Calibration(param(net), trained(net))
    assert_statistics(calibration.run()[0], population(np.concatenate([images, by_batches(images)])))
    with pytest.raises(UsageError, match="bn1, bn2 share their statistics, and one is behind another"):
        calibration.run(sequential=True)


def test_layers_that_share_a_part_of_their_statistics(images):
    net = DATA + layer_text("bn1", "BatchNorm", "data", "bn1", 'param { name: "m" lr_mult: 0 }')
    net += layer_text("bn2", "BatchNorm", "bn1", "bn1", 'param { name: "m" lr_mult: 0 }') + LOSS
    with pytest.raises(UsageError, match="'bn1' and 'bn2' share some of their statistics, but not all"):
        calibrate(param(net), trained(net), "out.caffemodel")


def test_frozen_layers_keep_their_statistics(images):
    weights = trained()
    net = NET.replace('name: "bn2"', 'name: "bn2" batch_norm_param { use_global_stats: true }')
    calibration = Calibration(param(net), weights)
    before = [blob.data.copy() for blob in calibration.net.params["bn2"]]
    changes = calibration.run()
    assert [change.name for change in changes] == ["bn1"] and calibration.frozen == ["bn2"]
    assert all((blob.data == value).all() for blob, value in zip(calibration.net.params["bn2"], before))


def test_the_layer_of_pspnet(images):
    net = DATA + layer_text("bn1", "BN", "data", "bn1", "bn_param { momentum: 0.9 }") + BN2 + LOSS
    for sequential, x in ((False, by_batches(images)), (True, normalized(images, *population(images)))):
        changes = calibrate(param(net), trained(net), "out.caffemodel", sequential=sequential)
        assert_statistics(changes[0], population(images))
        assert_statistics(changes[1], population(x))
        assert changes[0].mean_error > 1  # the running averages begin with 0, and there were three batches


def test_nvidias_layer_with_scale(images):
    net = DATA + layer_text("bn1", "BatchNorm", "data", "bn1", "batch_norm_param { scale_bias: true }") + LOSS
    weights = trained(net)
    assert_statistics(calibrate(param(net), weights, "out.caffemodel")[0], population(images))
    blobs = [minicaffe.Net(param(net).net_param, phase=0, weights=name).params["bn1_scale"] for name in
             (weights, "out.caffemodel")]  # fmt: skip
    assert all((a.data == b.data).all() for a, b in zip(*blobs))


def test_a_layer_for_each_phase(images):
    net = DATA
    for phase, rule in (("TRAIN", "false"), ("TEST", "true")):
        more = f"include {{ phase: {phase} }} batch_norm_param {{ use_global_stats: {rule} }}"
        net += layer_text("bn1", "BatchNorm", "data", "bn1", more)
    assert_statistics(calibrate(param(net + LOSS), trained(net + LOSS), "out.caffemodel")[0], population(images))


# -- which records -----------------------------------------------------------------------------------------------------

DUMMY = """layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 4 dim: 3 dim: 2 dim: 2 } shape { dim: 4 } data_filler { type: "constant" value: 5 }
  data_filler { type: "constant" value: 1 } } }"""


def test_data_without_a_number_of_records(images):
    net = DUMMY + BN1 + RELU + BN2 + LOSS
    weights = trained(net)
    with pytest.raises(UsageError, match="number of training records is not known.*--iterations"):
        calibrate(param(net), weights, "out.caffemodel")
    assert_statistics(calibrate(param(net), weights, "out.caffemodel", iterations=2)[0], ([5] * 3, [0] * 3))
    with pytest.raises(UsageError, match="expected a number of batches above 0, got 0"):
        calibrate(param(net), weights, "out.caffemodel", iterations=0)


def test_data_layers_that_differ(images):
    other = 'layer { name: "more" type: "Data" top: "more" data_param { source: "train" batch_size: 5 backend: LMDB } }'
    net = NET + other + layer_text("silence", "Silence", "more", "")
    with pytest.raises(UsageError, match="data, more differ in their numbers of records or batch sizes"):
        calibrate(param(net), trained(net), "out.caffemodel")


def test_rows_that_are_not_records(images):
    reshape = layer_text(
        "reshape", "Reshape", "data", "rows", "reshape_param { shape { dim: 8 dim: 3 dim: 2 dim: 5 } }"
    )
    net = (
        DATA + reshape + layer_text("bn", "BatchNorm", "rows", "bn") + layer_text("silence", "Silence", "bn label", "")
    )
    weights = trained(net, 0)
    with pytest.raises(UsageError, match=r"'bn' are not one for each record \(8 rows, 4 records.*--iterations 5"):
        calibrate(param(net), weights, "out.caffemodel")
    change = calibrate(param(net), weights, "out.caffemodel", iterations=5)[0]
    x = images.reshape(-1, 3, 2, 5)
    assert_statistics(change, (x.mean((0, 2, 3)), x.var((0, 2, 3)) * 400 / 399))
    net = net.replace("batch_size: 4", "batch_size: 2").replace("dim: 8", "dim: 4")
    assert_statistics(calibrate(param(net), weights, "out.caffemodel")[0], population(x))


def test_a_share_of_the_data_is_not_the_set(images):
    weights = trained()
    minicaffe.set_solver_count(2)
    try:
        with pytest.raises(UsageError, match=r"whole training set: call set_solver_count\(1\)"):
            calibrate(param(NET), weights, "out.caffemodel")
    finally:
        minicaffe.set_solver_count(1)


# -- files and errors --------------------------------------------------------------------------------------------------


def test_the_form_of_the_file(images):
    weights = trained()
    calibration = Calibration(param(NET), weights)
    calibration.run()
    for name, hdf5 in (("a.caffemodel", False), ("a.caffemodel.h5", True), ("a", False)):
        calibration.save(name)
        with open(name, "rb") as file:
            assert (file.read(4) == b"\x89HDF") is hdf5, name
    calibration = Calibration(param(NET), "a.caffemodel.h5")
    for name, hdf5 in (("b.caffemodel", False), ("b", True)):
        calibration.save(name)
        with open(name, "rb") as file:
            assert (file.read(4) == b"\x89HDF") is hdf5, name


def test_names_that_hdf5_cannot_hold_are_refused_before_the_data_are_read(images):
    net = NET.replace('name: "ip"', 'name: "bn1/0"')
    with pytest.raises(SnapshotError, match="HDF5 cannot hold the weights"):
        calibrate(param(net), trained(net), "out.caffemodel.h5")


def test_training_goes_on_with_the_result(images):
    (change, _) = calibrate(param(NET), trained(), "out.caffemodel")
    solver = solver_from_text(SOLVER + ' weights: "out.caffemodel"', NET)
    assert (solver.net.params["bn1"][0].data == change.new_mean.astype("f4")).all()
    solver.step(1)
    np.testing.assert_allclose(
        solver.net.params["bn1"][0].data, 0.999 * change.new_mean + images[:4].mean((0, 2, 3)), rtol=1e-4
    )
    assert solver.net.params["bn1"][2].data == pytest.approx(1.999)


def test_nets_without_statistics(images):
    net = DATA + LOSS.replace('"bn1"', '"data"', 1)
    with pytest.raises(UsageError, match="net '' has no layer whose statistics training updates$"):
        calibrate(param(net), trained(net), "out.caffemodel")
    frozen = NET.replace('type: "BatchNorm"', 'type: "BatchNorm" batch_norm_param { use_global_stats: true }')
    with pytest.raises(UsageError, match="bn1, bn2 keep theirs"):
        calibrate(param(frozen), trained(), "out.caffemodel")


def test_nets_with_inputs(images):
    net = layer_text("data", "Input", "", "data label", "input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } }")
    with pytest.raises(UsageError, match="the training net has inputs"):
        calibrate(param(net + BN1 + RELU + BN2 + LOSS), "none.caffemodel", "out.caffemodel")


def test_weights_that_are_missing(images):
    with pytest.raises(SnapshotError, match="cannot open the weights 'none.caffemodel'"):
        calibrate(param(NET), "none.caffemodel", "out.caffemodel")


@pytest.mark.parametrize("sequential", [False, True])
def test_values_that_are_not_finite(images, tmp_path, sequential):
    net = NET.replace(BN2, layer_text("log", "Log", "bn1", "bn1") + BN2)
    calibration = Calibration(param(net), trained())
    before = [blob.data.copy() for name in ("bn1", "bn2") for blob in calibration.net.params[name]]
    with pytest.raises(NetError, match="layer 'bn2' reads values that are not finite, in batch 0"):
        calibration.run(sequential=sequential)
    after = [blob.data for name in ("bn1", "bn2") for blob in calibration.net.params[name]]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


def test_the_net_of_a_calibration_runs_on(images):
    calibration = Calibration(param(NET), trained())
    changes = [calibration.run(), calibration.run(), calibration.run(sequential=True), calibration.run(sequential=True)]
    for first, second in (changes[:2], changes[2:]):
        assert all((a.new_mean == b.new_mean).all() for a, b in zip(first, second))
