"""AnnotatedData: boxes follow their pictures through every step, and records that are damaged."""

import logging

import numpy as np
import pytest

from helpers.annotated import TRAINING, random_records, record, write_records
from helpers.readers import assert_same_batches, batches, data_layer, write_images
from minicaffe.data import open_db, workers
from minicaffe.data.mean import write_mean
from minicaffe.errors import DataError, LayerError
from minicaffe.proto import caffe_pb2

pytestmark = pytest.mark.layers("AnnotatedData")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def layer(transform="", sampling="", batch=1, phase=0, tops=2, data=""):
    """A layer that reads the database "db", with a fixed random stream, and its tops."""
    made, blobs = data_layer(
        f"""name: "d" type: "AnnotatedData" transform_param {{ {transform} }}
        data_param {{ source: "db" backend: LMDB batch_size: {batch} {data} }}
        annotated_data_param {{ {sampling} }}""",
        tops, phase,
    )  # fmt: skip
    state = made.state()
    made.load_state(state | {"rng": state["rng"] | {"key": [3, 4], "counter": [0] * 4}})
    return made, blobs


# -- a rectangle is drawn into a picture, and found again --------------------------------------------------------------

SIZE = (60, 80)
SAMPLING = "sampler { min_scale: 0.4 max_scale: 0.9 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }"
EXPANSION = "expand_param { max_expand_ratio: 3 }"
SAMPLER = f"batch_sampler {{ {SAMPLING} max_trials: 1 }}"
#: transform_param, annotated_data_param, and by how many pixels of the result a side may be off: a part is cut out at
#: whole pixels, up to two of which are missing, and its box is not rounded; resizing enlarges them.  Pads are whole
#: pixels, too, and the shift of the boxes is not.
STEPS = {
    "nothing": ("", "", 0.01),
    "mirror": ("mirror: true", "", 0.01),
    "crop": ("crop_size: 50", "", 0.01),
    "crop_h": ("crop_h: 50 crop_w: 60 mirror: true", "", 0.01),
    "expand": (EXPANSION, "", 0.01),
    "sample": ("mirror: true", SAMPLER, 2),
    "expand and sample": (EXPANSION, SAMPLER, 2),
    "expand, sample, crop": (f"crop_size: 16 {EXPANSION}", SAMPLER, 2),
    "warp": ("resize_param { height: 90 width: 40 }", "", 0.75),
    "cover": ("resize_param { height: 90 width: 60 resize_mode: FIT_SMALL_SIZE } mirror: true", "", 0.75),
    "pad": ("resize_param { height: 90 width: 60 resize_mode: FIT_LARGE_SIZE_AND_PAD } mirror: true", "", 1.1),
    "pad at the sides": ("resize_param { height: 60 width: 200 resize_mode: FIT_LARGE_SIZE_AND_PAD }", "", 1.1),
    "expand and resize": (f"resize_param {{ height: 90 width: 40 }} {EXPANSION} mirror: true", "", 0.75),
    "sample and resize": ("resize_param { height: 30 width: 40 } mirror: true", SAMPLER, 3),
    "jitter": ("mirror: true", "yolo_data_jitter: 0.5", 2),
    "all": (f"mirror: true resize_param {{ height: 60 width: 80 }} crop_size: 50 {EXPANSION}", SAMPLER, 6),
}


def pictures(count):
    """Records of a white rectangle on black, whose box is exact."""
    rng = np.random.default_rng(5)
    for _ in range(count):
        top, left = rng.integers(0, SIZE[0] - 20), rng.integers(0, SIZE[1] - 20)
        bottom, right = rng.integers(top + 10, SIZE[0] + 1), rng.integers(left + 10, SIZE[1] + 1)
        image = np.zeros((3, *SIZE), np.uint8)
        image[:, top:bottom, left:right] = 255
        yield record(image, [(1, 0, left / SIZE[1], top / SIZE[0], right / SIZE[1], bottom / SIZE[0], 0)])


def found_box(picture):
    """(xmin, ymin, xmax, ymax) in pixels of what is white; None if nothing is."""
    rows, columns = (np.flatnonzero((picture > 127).any(axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) if len(rows) else None


@pytest.mark.parametrize("kind", STEPS)
def test_the_box_is_where_the_rectangle_is(kind):
    transform, sampling, off = STEPS[kind]
    write_records("db", pictures(20))
    made, blobs = layer(transform, sampling)
    seen = 0
    for images, ((row,),) in ((images, rows[0]) for images, rows in batches(made, blobs, 100)):
        sides = np.array(images.shape[:1:-1] * 2)
        drawn, box = found_box(images[0, 0]), row[3:7] * sides if row[0] == 0 else None
        if drawn is None or box is None:  # what is left of the other is a line at most
            assert all(each is None or (each[2:] - each[:2]).min() <= 2 * off for each in (drawn, box))
            continue
        assert (box >= 0).all() and (box <= sides).all()
        np.testing.assert_allclose(box, drawn, rtol=0, atol=off)
        seen += 1
    assert seen > 20


def test_labels_of_a_batch():
    """Rows in the order of the records, the image's number first; groups without boxes left vanish."""
    image = np.zeros((1, 10, 10), np.uint8)
    write_records("db", [
        record(image, [(7, 0, 0.1, 0.1, 0.9, 0.9, 0), (7, 1, 0, 0, 0.2, 0.2, 1), (3, 0, 0.4, 0.4, 0.6, 0.6, 0)]),
        record(image, []),
        record(image, [(2, 5, 0.5, 0.25, 0.75, 1, 0)]),
    ])  # fmt: skip
    made, blobs = layer("crop_size: 5", batch=3, phase=1)  # the crop is [2, 7) of 10
    ((_, rows),) = batches(made, blobs, 1)
    expected = [[0, 7, 0, 0, 0, 1, 1, 0], [0, 3, 0, 0.4, 0.4, 0.8, 0.8, 0], [2, 2, 5, 0.6, 0.1, 1, 1, 0]]
    np.testing.assert_allclose(rows, np.array(expected)[None, None], atol=1e-6)


@pytest.mark.parametrize("difficult", [True, False])
def test_labels_of_yolo(difficult):
    """Centre and size of the boxes of each image, classes from 0; rows of 0 behind."""
    image = np.zeros((1, 10, 10), np.uint8)
    write_records("db", [
        record(image, [(7, 0, 0.1, 0.2, 0.5, 0.8, 0), (3, 0, 0.4, 0.4, 0.6, 0.6, 1), (1, 0, 0, 0, 1, 1, 0)]),
        record(image, []),
    ])  # fmt: skip
    text = f"yolo_data_type: 1 yolo_data_jitter: 0 train_diffcult: {str(difficult).lower()}"
    made, blobs = layer("", text, batch=2)
    assert blobs[1].shape == (2, 1, 300, 5)
    ((_, rows),) = batches(made, blobs, 1)
    expected = [[6, 0.3, 0.5, 0.4, 0.6], *[[2, 0.5, 0.5, 0.2, 0.2]] * difficult, [0, 0.5, 0.5, 1, 1]]
    np.testing.assert_allclose(rows[0, 0, : len(expected)], expected, atol=1e-6)
    assert not rows[0, 0, len(expected) :].any() and not rows[1].any()


def test_labels_of_yolo_have_room_for_300_boxes():
    write_records("db", [record(np.zeros((1, 4, 4), np.uint8), [(1, 0, 0, 0, 1, 1, 0)] * 301)])
    made, blobs = layer("", "yolo_data_type: 1")
    with pytest.raises(DataError, match="an image has at most 300 boxes, got 301"):
        batches(made, blobs, 1)


@pytest.mark.parametrize(
    ("sampling", "jitters"),
    [
        ("", False), ("yolo_data_type: 1", True), ("yolo_data_jitter: 0.3", True),
        ("yolo_data_type: 1 yolo_data_jitter: 0", False),
    ],
)  # fmt: skip
def test_when_there_is_a_jitter(sampling, jitters):
    write_records("db", pictures(1))
    made, blobs = layer("resize_param { height: 60 width: 80 }", sampling)
    images = [images for images, _ in batches(made, blobs, 12)]
    assert any((image != images[0]).any() for image in images) == jitters


@pytest.mark.parametrize(
    ("emit", "kept"),
    [("", [1, 2, 3]), ("emit_constraint { emit_type: CENTER }", [1, 3]),
     ("emit_constraint { emit_type: MIN_OVERLAP emit_overlap: 0.3 }", [1, 2]),
     ("emit_constraint { emit_type: MIN_OVERLAP emit_overlap: 0.5 }", [1])],
)  # fmt: skip
def test_emit_constraint(emit, kept):
    boxes = [(1, 0, 0.4, 0.4, 0.6, 0.6, 0), (2, 0, 0.5, 0.3, 1, 0.4, 0), (3, 0, 0, 0, 1, 1, 0)]
    write_records("db", [record(np.zeros((1, 10, 10), np.uint8), boxes)])
    made, blobs = layer(f"crop_size: 5 {emit}", phase=1)
    ((_, rows),) = batches(made, blobs, 1)
    assert rows[0, 0, :, 1].tolist() == kept


def test_height_scale_and_width_scale_stretch_the_boxes():
    write_records("db", [record(np.zeros((1, 10, 20), np.uint8), [(1, 0, 0.25, 0.5, 0.5, 1, 0)])])
    made, blobs = layer(
        "resize_param { height: 20 width: 20 resize_mode: FIT_SMALL_SIZE height_scale: 10 width_scale: 16 }"
    )
    ((images, rows),) = batches(made, blobs, 1)
    assert images.shape == (1, 1, 20, 40)
    np.testing.assert_allclose(rows[0, 0, 0, 3:7], [0.625, 1, 1.25, 2])


# -- what is random ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 4])
def test_batches_do_not_depend_on_the_number_of_threads(count, monkeypatch):
    write_records("annotated", random_records(13))
    results = []
    for threads in (1, count):
        monkeypatch.setattr(workers, "cores", lambda: threads)  # noqa: B023
        made, blobs = data_layer(f'name: "d" {TRAINING}')
        state = made.state()
        made.load_state(state | {"rng": state["rng"] | {"key": [3, 4], "counter": [0] * 4}})
        results.append(batches(made, blobs, 8))
        made.close()
    for one, other in zip(*results, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_it_goes_on_from_a_saved_state():
    write_records("annotated", random_records(13))
    made, blobs = data_layer(f'name: "d" {TRAINING}')
    batches(made, blobs, 3)
    state = made.state()
    expected = batches(made, blobs, 4)
    resumed, others = data_layer(f'name: "d" {TRAINING}')
    batches(resumed, others, 1)
    resumed.load_state(state)
    for one, other in zip(expected, batches(resumed, others, 4), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_pad_of_an_expansion_is_the_mean_and_is_not_distorted():
    write_records("db", [record(np.full((3, 20, 20), 200, np.uint8), [])])
    made, blobs = layer(
        f"mean_value: 10 mean_value: 20 mean_value: 30 {EXPANSION} "
        "distort_param { brightness_prob: 1 brightness_delta: 30 }"
    )
    values = set()
    for images, _ in batches(made, blobs, 10):
        image = images[0] + np.float32([10, 20, 30])[:, None, None]
        inside = (image != np.float32([10, 20, 30])[:, None, None]).all(0)
        assert inside.sum() == 400 and len(np.unique(image[:, inside])) == 1
        values.add(image[0][inside][0])
        assert (images[0][:, ~inside] == 0).all()
    assert len(values) > 3 and all(170 <= value <= 230 for value in values)


def test_a_part_is_drawn_in_TEST_too():
    write_records("db", [record(np.zeros((1, 40, 40), np.uint8), [])])
    made, blobs = layer("", "batch_sampler { sampler { min_scale: 0.51 max_scale: 0.52 } max_trials: 1 }", phase=1)
    assert [images.shape for images, _ in batches(made, blobs, 2)] == [(1, 1, 20, 20)] * 2


# -- labels without boxes, and messages --------------------------------------------------------------------------------


def without_type(image, label):
    return caffe_pb2.AnnotatedDatum(datum=record(image, [], label=label).datum)


def test_records_without_a_type_have_numbers_as_labels():
    write_records("db", [without_type(np.zeros((1, 4, 4), np.uint8), i) for i in (3, 5)])
    made, blobs = layer("crop_size: 2", batch=3)
    ((images, labels),) = batches(made, blobs, 1)
    assert images.shape == (3, 1, 2, 2) and labels.shape == (3, 1, 1, 1) and labels.ravel().tolist() == [3, 5, 3]


def test_one_top():
    write_records("db", random_records(2))
    made, blobs = layer("crop_size: 8", batch=2, tops=1)
    ((images,),) = batches(made, blobs, 1)
    assert images.shape == (2, 3, 8, 8)


IMAGE = np.zeros((1, 8, 8), np.uint8)


def damaged(change):
    result = record(IMAGE, [(1, 0, 0.1, 0.1, 0.5, 0.5, 0), (1, 1, 0.1, 0.1, 0.5, 0.5, 0)])
    change(result)
    return result


def set_corner(name, value):
    return lambda each: setattr(each.annotation_group[0].annotation[1].bbox, name, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda each: each.ClearField("datum"), "record '00001' of db is no AnnotatedDatum with a datum"),
        (lambda each: each.datum.ClearField("data"), "record '00001' of db.*holds 0 values"),
        (lambda each: each.ClearField("type"), "record '00001' of db must have a type of annotation"),
        (set_corner("xmin", float("nan")), "record '00001' of db: box 1 must have finite corners.*got nan, 0.1"),
        (set_corner("ymax", float("inf")), "record '00001' of db: box 1 must have finite corners"),
    ],
)
def test_damaged_records(change, message):
    write_records("db", [record(IMAGE, []), damaged(change)])
    made, blobs = layer(batch=2)
    with pytest.raises(DataError, match=f"AnnotatedData layer 'd': .*({message})"):
        batches(made, blobs, 1)


def test_a_box_turned_inside_out_is_dropped():
    """As in the fork, whose converter stores such boxes."""
    write_records("db", [damaged(set_corner("xmax", 0.05))])
    made, blobs = layer(batch=1)
    batches(made, blobs, 1)
    np.testing.assert_allclose(blobs[1].data[0, 0, :, 1:7], [[1, 0, 0.1, 0.1, 0.5, 0.5]], atol=1e-6)


def test_a_record_cut_off():
    with open_db("db", "lmdb", "w") as database:
        database.put("a", record(IMAGE, []).SerializeToString()[:-20])
    with pytest.raises(DataError, match="record 'a' of db is no AnnotatedDatum"):
        layer()


def test_a_database_of_images_without_boxes():
    write_images("db", [IMAGE])
    with pytest.raises(DataError, match="record '00000' of db is no AnnotatedDatum.*create_annoset"):
        layer()


def test_anno_type_demands_boxes():
    write_records("db", [without_type(IMAGE, 3)])
    with pytest.raises(DataError, match="record '00000' of db must have a type of annotation"):
        layer("", "anno_type: BBOX")


def test_images_of_different_sizes():
    write_records("db", [record(np.zeros((1, 8, width), np.uint8), []) for width in (8, 9)])
    made, blobs = layer(batch=2)
    with pytest.raises(DataError, match=r"image 1 of the batch \(record '00001' of db\) has shape \(1, 8, 9\)"):
        batches(made, blobs, 1)


@pytest.mark.parametrize(
    ("transform", "sampling", "message"),
    [
        ("expand_param { max_expand_ratio: 1 }", "", "max_expand_ratio must be above 1, got 1"),
        (
            "distort_param { contrast_prob: 1 contrast_lower: 2 contrast_upper: 1 }",
            "",
            "0 <= lower <= upper, got 2, 1",
        ),
        ("distort_param { hue_prob: 1 hue_delta: -3 }", "", "hue_delta must be a number from 0 on, got -3"),
        ("", "batch_sampler { sampler { max_scale: 2 } }", "max_scale <= 1, got 1 and 2"),
        ("", "batch_sampler { sampler { min_aspect_ratio: 0 } }", "0 < min_aspect_ratio"),
        ("", "batch_sampler { max_trials: 4000000000 }", "max_trials must be at most 100000"),
    ],
)
def test_parameters(transform, sampling, message):
    write_records("db", random_records(1))
    with pytest.raises(DataError, match=f"AnnotatedData layer 'd': .*{message}"):
        layer(transform, sampling)


def test_floats_cannot_be_distorted():
    write_records("db", [record(IMAGE.astype(np.float32), [])])
    made, blobs = layer("distort_param { brightness_prob: 1 brightness_delta: 3 }")
    with pytest.raises(DataError, match="image 0 of the batch .* must hold bytes for distort_param"):
        batches(made, blobs, 1)


def test_a_gray_image_among_those_in_colour():
    write_records("db", [record(np.zeros((channels, 8, 8), np.uint8), []) for channels in (3, 1)])
    made, blobs = layer(f"mean_value: 1 mean_value: 2 mean_value: 3 crop_size: 8 {EXPANSION}", batch=2)
    with pytest.raises(DataError, match=r"3 for 1 channels: image 1 of the batch \(record '00001' of db\) is gray"):
        batches(made, blobs, 1)


def test_a_mean_file_fills_with_the_mean_of_each_channel():
    write_records("db", [record(np.full((2, 8, 8), 90, np.uint8), [])])
    write_mean("mean.binaryproto", np.arange(32.0).reshape(2, 4, 4))
    made, blobs = layer(f'mean_file: "mean.binaryproto" resize_param {{ height: 4 width: 4 }} {EXPANSION}')
    assert made.transformer._fill(np.zeros((2, 8, 8), np.uint8)).ravel().tolist() == [8, 24]
    ((images, _),) = batches(made, blobs, 1)
    assert images.shape == (1, 2, 4, 4)


def test_one_of_several_sizes_is_drawn_for_each_batch():
    write_records("db", random_records(6))
    sizes = "resize_param { prob: 0.7 height: 8 width: 10 } resize_param { prob: 0.3 height: 12 width: 9 }"
    made, blobs = layer(f"{sizes} mirror: true", batch=3)
    shapes = [images.shape[2:] for images, _ in batches(made, blobs, 100)]
    assert set(shapes) == {(8, 10), (12, 9)} and 55 < shapes.count((8, 10)) < 85
    state = made.state()
    expected = batches(made, blobs, 6)
    made.load_state(state)
    assert_same_batches(batches(made, blobs, 6), expected)


def test_boxes_follow_the_view_of_the_picture():
    write_records("db", [record(np.full((3, 30, 40), 9, np.uint8), [(1, 0, 0.4, 0.3, 0.6, 0.7, 0)], "png")])
    far = "geometry_param { prob: 1 zoom_in: false persp_horizontal: false persp_vertical: false pad_mode: CONSTANT }"
    for images, labels in batches(*layer(f"resize_param {{ height: 60 width: 80 }} {far}"), 9):
        assert images.shape[2:] == (60, 80) and labels.shape == (1, 1, 1, 8)
        xmin, ymin, xmax, ymax = labels[0, 0, 0, 3:7]
        assert 0.1 < xmax - xmin <= 0.21 and 0.2 < ymax - ymin <= 0.42 and abs(xmin + xmax - 1) < 0.05


@pytest.mark.parametrize("text", ["vertical_mirror: true", "resize_param { height: 9 width: 9 max_angle: 3 }"])
def test_what_boxes_do_not_follow(text):
    write_records("db", random_records(1))
    with pytest.raises(DataError, match="boxes do not follow center_object, max_angle, vertical_mirror, random_90"):
        layer(text)


def test_FIT_SMALL_SIZE_needs_a_batch_of_one():
    write_records("db", random_records(1))
    with pytest.raises(LayerError, match="batch_size must be 1, got 2"):
        layer("resize_param { height: 9 width: 9 resize_mode: FIT_SMALL_SIZE }", batch=2)


def test_a_label_map_that_does_not_exist_is_a_warning(caplog):
    write_records("db", random_records(1))
    with caplog.at_level(logging.WARNING):
        layer("", 'label_map_file: "missing.prototxt"')
    assert "there is no label_map_file missing.prototxt" in caplog.text


def test_other_layers_do_not_distort(caplog):
    write_images("db", [IMAGE])
    with caplog.at_level(logging.WARNING):
        data_layer("""name: "d" type: "Data" data_param { source: "db" backend: LMDB batch_size: 1 }
            transform_param { distort_param { hue_prob: 1 } emit_constraint { } }""")
    assert caplog.messages == [
        f"transform_param: {name} is applied by layers of type AnnotatedData only"
        for name in ("distort_param", "emit_constraint")
    ]


def test_data_reads_the_images_of_an_annotated_database():
    """As compute_image_mean and others that read databases do."""
    write_records("db", [record(np.full((1, 2, 2), value, np.uint8), [], label=value) for value in (1, 2)])
    made, blobs = data_layer('name: "d" type: "Data" data_param { source: "db" backend: LMDB batch_size: 2 }')
    ((images, labels),) = batches(made, blobs, 1)
    assert images[:, 0, 0, 0].tolist() == labels.tolist() == [1, 2]
