"""Each fault of a data set is found by its code and by no other; sound data sets have none."""

import h5py
import numpy as np
import pytest
from PIL import Image

from helpers.checked import (
    MEAN,
    SHAPE,
    SOLVER,
    TESTS,
    assert_only,
    assert_sound,
    classifier,
    data,
    database,
    found,
    images,
    loss,
    shuffled,
)
from helpers.nets import layer_text, net_from_text
from helpers.situations import ip
from minicaffe.data.db import open_db
from minicaffe.data.mean import write_mean

EVEN = (50, 50, 50, 50)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one(labels, outputs=4, **options):
    """The findings of a train net on one database with these labels."""
    return found(data(database("train", labels), **options) + classifier(outputs))


def two(train, test, outputs=4, solver=SOLVER + TESTS):
    """The findings of a train net and a test net on databases with these labels."""
    sources = database("train", train), database("test", test)
    return found(data(sources[0], "TRAIN") + data(sources[1], "TEST") + classifier(outputs), solver)


def hdf5(name, **arrays):
    """An HDF5 file and the list of it; returns the list's name."""
    with h5py.File(f"{name}.h5", "w") as file:
        for key, values in arrays.items():
            file[key] = values
    with open(f"{name}.txt", "w") as file:
        file.write(f"{name}.h5\n")
    return f"{name}.txt"


def rows(source, tops="data label", more="", batch=10):
    return layer_text(
        "data", "HDF5Data", "", tops, f'hdf5_data_param {{ source: "{source}" batch_size: {batch} {more} }}'
    )


# -- range of labels ---------------------------------------------------------------------------------------------------


def test_sound():
    assert_sound(two(shuffled(EVEN), shuffled(EVEN, 1)))


def test_labels_from_one():
    assert_only(one(shuffled(EVEN) + 1), "labels-from-one", "subtract 1 from the labels", "layer 'data' in TRAIN")


def test_labels_from_one_in_leveldb():
    source = database("train", shuffled(EVEN) + 1, backend="leveldb")
    assert_only(found(data(source, more="") + classifier()), "labels-from-one")


def test_num_output_too_small():
    assert_only(one(shuffled((40,) * 5), outputs=3), "labels-out-of-range", "write num_output: 5")


def test_negative_labels():
    assert_only(one(shuffled(EVEN) - 1), "labels-out-of-range", "ignore_label: -1")


def test_ignored_label():
    source = database("train", np.where(np.arange(200) % 7 == 0, 255, shuffled(EVEN)))
    assert_sound(found(data(source) + classifier(4, "loss_param { ignore_label: 255 }")))


def test_num_output_too_large():
    assert_only(one(shuffled(EVEN), outputs=10), "unused-outputs", "the last 6 never occur")


def test_classes_of_the_test_set_only():
    findings = two(shuffled(EVEN[:3]), shuffled(EVEN, 1))
    assert_only(findings, "test-labels-unknown", "it has the label 3", "layer 'data' in TEST")


def test_class_missing_in_test_is_a_fact():
    assert_only(two(shuffled(EVEN), shuffled((70, 70, 60), 1)), "test-lacks-labels", "no record has the label 3")


def test_class_0_unused_is_a_fact():
    assert_only(one(shuffled(EVEN) + 1, outputs=5), "class-missing", "the label 0")


def test_outputs_of_the_weights_are_a_fact():
    source = database("train", shuffled(EVEN))
    net = data(source) + classifier(10)
    net_from_text(net).save("start.caffemodel")
    assert_only(found(net, weights=["start.caffemodel"]), "unused-outputs-of-weights", "rename the layer")


def test_scores_of_a_convolution():
    net = data(database("train", shuffled(EVEN) + 1)) + layer_text(
        "score", "Convolution", "data", "score",
        'convolution_param { num_output: 4 kernel_size: 8 weight_filler { type: "xavier" } }',
    ) + layer_text("relu", "ReLU", "score", "score2") + loss("score2")  # fmt: skip
    codes = {each.code for each in found(net, stages=("data",))}
    assert codes == {"labels-from-one"}


# -- labels of HDF5 ----------------------------------------------------------------------------------------------------


def pixels(count=200):
    return np.random.default_rng(0).standard_normal((count, 12)).astype(np.float32)


def test_labels_that_are_not_whole():
    source = hdf5("train", data=pixels(), label=shuffled(EVEN) / 4)
    assert_only(found(rows(source) + classifier()), "labels-not-whole", "use EuclideanLoss for values")


def test_nan_as_label():
    labels = shuffled(EVEN).astype(np.float32)
    labels[150] = np.nan
    assert_only(found(rows(hdf5("train", data=pixels(), label=labels)) + classifier()), "labels-not-whole", "nan")


def test_values_for_regression():
    source = hdf5("train", data=pixels(), label=np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32))
    net = rows(source) + ip("ip", "data", 2) + layer_text("loss", "EuclideanLoss", "ip label", "loss")
    assert_sound(found(net))


MULTI = layer_text("slice", "Slice", "label", "first second", "slice_param { axis: 1 slice_point: 1 }")


@pytest.mark.parametrize(
    ("outputs", "code"), [((4, 3), ""), ((4, 2), "labels-out-of-range"), ((9, 3), "unused-outputs")]
)
def test_columns_of_labels(outputs, code):
    labels = np.stack([shuffled(EVEN), shuffled((70, 70, 60), 1)], 1)
    net = rows(hdf5("train", data=pixels(), label=labels.astype(np.float32))) + MULTI
    for name, count in zip(("first", "second"), outputs):
        net += ip(f"ip_{name}", "data", count) + layer_text(
            f"loss_{name}", "SoftmaxWithLoss", f"ip_{name} {name}", f"loss_{name}"
        )
    assert_only(found(net), code) if code else assert_sound(found(net))


def test_label_images():
    labels = np.random.default_rng(0).integers(0, 4, (40, 1, 6, 6)).astype(np.float32)
    labels[:, :, :2] = 255
    pictures = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    param = 'convolution_param { num_output: %d kernel_size: 3 weight_filler { type: "xavier" } }'
    net = rows(hdf5("train", data=pictures, label=labels), batch=4)
    ignore = "loss_param { ignore_label: 255 }"
    sound = net + layer_text("score", "Convolution", "data", "score", param % 4) + loss("score", ignore)
    assert_sound(found(sound))
    small = net + layer_text("score", "Convolution", "data", "score", param % 3) + loss("score", ignore)
    assert_only(found(small), "labels-out-of-range", "write num_output: 4")


# -- order and numbers of records --------------------------------------------------------------------------------------


def test_sorted_by_class():
    findings = one(np.sort(shuffled(EVEN)))
    assert_only(findings, "sorted-by-class", "98.5% of the records", "layer 'data' in TRAIN")


def test_sorted_but_shuffled_when_read():
    source = database("train", np.sort(shuffled(EVEN)))
    assert_sound(found(data(source, more="backend: LMDB shuffle: true") + classifier()))


def test_sorted_test_set_is_sound():
    assert_sound(two(shuffled(EVEN), np.sort(shuffled(EVEN))))


def test_sorted_but_one_batch():
    assert_sound(one(np.sort(shuffled(EVEN)), batch=200))


def test_one_class_in_a_hundred_is_not_sorted():
    assert_sound(one(shuffled((1980, 20)), outputs=2))


@pytest.mark.parametrize("shuffle", [False, True])
def test_sorted_image_list(shuffle, folder):
    for i, image in enumerate(images(8)):
        Image.fromarray(image.transpose(1, 2, 0)).save(f"{i}.png")
    (folder / "list.txt").write_text("".join(f"{i % 8}.png {i // 50}\n" for i in range(200)))
    net = (
        layer_text(
            "data",
            "ImageData",
            "",
            "data label",
            f"""transform_param {{ {MEAN} }} image_data_param {{
        source: "list.txt" batch_size: 10 shuffle: {str(shuffle).lower()} }}""",
        )
        + classifier()
    )
    findings = found(net)
    if shuffle:
        assert_sound(findings)
    else:
        assert_only(findings, "sorted-by-class", "image_data_param { shuffle: true }")


@pytest.mark.parametrize(
    ("iterations", "code"),
    [(10, "test-iter-too-small"), (20, ""), (21, "test-iter-not-exact"), (40, "test-iter-not-exact")],
)
def test_test_iter(iterations, code):
    findings = two(shuffled(EVEN), shuffled(EVEN, 1), solver=SOLVER + f"test_iter: {iterations} test_interval: 50")
    assert_only(findings, code, f"{iterations * 10}") if code else assert_sound(findings)


def test_each_test_net_has_its_test_iter():
    sources = database("train", shuffled(EVEN)), database("test", shuffled((100,) * 4, 1))
    net = data(sources[0], "TRAIN") + data(sources[1], "TEST") + classifier()
    findings = found(net, SOLVER + "test_iter: 40 test_iter: 10 test_interval: 50")
    assert_only(findings, "test-iter-too-small", "write test_iter: 40", "layer 'data' in TEST net 1")


def test_batch_larger_than_the_data():
    assert_only(one(shuffled((3, 3, 3, 3)), batch=32), "batch-larger-than-data", "there are 12 records")


def test_test_on_the_training_set_is_a_fact():
    source = database("train", shuffled(EVEN))
    findings = found(data(source, "TRAIN") + data(source, "TEST") + classifier(), SOLVER + TESTS)
    assert_only(findings, "same-source", "the accuracy on the training set")


def test_runs_of_a_large_database(monkeypatch):
    for name, value in (("MAX_RECORDS", 100), ("RUNS", 5), ("RUN", 20)):
        monkeypatch.setattr(f"minicaffe.checks.data.records.{name}", value)
    assert_only(one(np.sort(shuffled(EVEN))), "sorted-by-class")


def test_start_of_a_large_leveldb(monkeypatch):
    for name, value in (("MAX_BYTES", 100), ("RUNS", 5), ("RUN", 20)):
        monkeypatch.setattr(f"minicaffe.checks.data.records.{name}", value)
    source = database("train", shuffled(EVEN), backend="leveldb")
    assert_sound(found(data(source, more="") + classifier()))


# -- TRAIN and TEST ----------------------------------------------------------------------------------------------------


def test_permuted_labels():
    counts = (300, 100, 50, 30)
    findings = two(shuffled(counts), shuffled(counts[::-1], 1), solver=SOLVER + "test_iter: 48 test_interval: 50")
    assert_only(findings, "labels-permuted", "under other numbers")


def test_other_frequencies_are_a_fact():
    findings = two(shuffled((150, 100, 50, 30)), shuffled((20, 20, 20, 140), 1))
    assert_only(findings, "frequencies-differ", "label 3 is 9.1%")


# -- images ------------------------------------------------------------------------------------------------------------


def test_crop_larger_than_the_images():
    findings = one(shuffled(EVEN), transform=MEAN + " crop_size: 9")
    assert_only(findings, "crop-too-large", "crop 9x9 is larger than the image, 8x8")


def pictures_of(*shapes, count=40):
    return [images(1, shapes[i % len(shapes)], seed=i)[0] for i in range(count)]


def test_images_of_unequal_sizes():
    source = database("train", shuffled((10,) * 4), pictures_of((3, 8, 8), (3, 10, 8)))
    assert_only(found(data(source) + classifier()), "unequal-sizes", "(3, 10, 8)")


@pytest.mark.parametrize("force, channels", [("force_color", 1), ("force_gray", 3)])
def test_colour_that_is_not_forced(force, channels):
    source = database("train", shuffled((10,) * 4), pictures_of((channels, 8, 8)))
    findings = found(data(source, transform=f"mean_value: 128 scale: 0.0156 {force}: true") + classifier())
    assert_only(findings, "color-not-forced", f"{force} has no effect, as the records are not encoded")


def test_one_image_that_is_too_small():
    source = database("train", shuffled((10,) * 4), pictures_of(*[(3, 10, 9)] * 39, (3, 8, 6)))
    assert_only(found(data(source, transform=MEAN + " crop_size: 8") + classifier()), "crop-too-large", "8x6")


def test_images_of_unequal_sizes_with_a_crop():
    source = database("train", shuffled((10,) * 4), pictures_of((3, 8, 8), (3, 10, 8)))
    assert_sound(found(data(source, transform=MEAN + " crop_size: 8") + classifier()))


def test_mean_of_another_shape():
    write_mean("mean.binaryproto", np.full((3, 6, 6), 128.0))
    findings = one(shuffled(EVEN), transform='mean_file: "mean.binaryproto"')
    assert_only(findings, "mean-shape", "compute_image_mean")


@pytest.mark.parametrize("transform", ["mean_value: 0.5", "mean_value: 255", 'mean_file: "mean.binaryproto"'])
def test_mean_of_other_data(transform):
    write_mean("mean.binaryproto", np.full(SHAPE, 40.0))
    findings = one(shuffled(EVEN), transform=transform + " scale: 0.01")
    assert_only(findings, "mean-of-other-data", "that of the data, 127.8, 127.5")


def test_mean_of_pixels_for_data_from_0_to_1():
    floats = np.random.default_rng(0).random((200, *SHAPE))
    source = database("train", shuffled(EVEN), floats)
    assert_only(found(data(source) + classifier()), "mean-of-other-data", "that of the data, 0.5")


def test_too_many_mean_values():
    findings = one(shuffled(EVEN), transform="mean_value: 128 mean_value: 128 scale: 0.0156")
    assert_only(findings, "mean-shape", "got 2 for 3 channels")


# -- what cannot be read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (data("nothing"), "does not exist"),
        (data("train", transform='mean_file: "nothing"'), "cannot read mean file nothing"),
        (data("train", more=""), "set backend: LMDB"),
        (rows("nothing"), "nothing"),
        (layer_text("data", "ImageData", "", "data label", 'image_data_param { source: "list" }'), "line 1"),
        (layer_text("data", "WindowData", "", "data label", 'window_data_param { source: "list" }'), "line 1"),
    ],
)  # fmt: skip
def test_unreadable(layer, text, folder):
    database("train", shuffled(EVEN))
    (folder / "list").write_text("a.png\n")
    assert_only(found(layer + classifier()), "data-unreadable", text, "layer 'data' in TRAIN")


def test_missing_image(folder):
    (folder / "list.txt").write_text("a.png 0\nb.png 1\n")
    net = layer_text("data", "ImageData", "", "data label", 'image_data_param { source: "list.txt" }') + classifier()
    assert_only(found(net), "data-unreadable", "a.png")


def test_damaged_record():
    with open_db("train", "lmdb", "w") as file:
        for i in range(30):
            file.put(f"{i:03d}", b"\xff\xff" if i == 20 else b"\x08\x01\x10\x01\x18\x01\x22\x01a\x28\x01")
    assert_only(found(data("train") + classifier()), "data-unreadable", "record '020'")
