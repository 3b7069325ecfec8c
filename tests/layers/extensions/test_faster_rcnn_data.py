"""RoIDataLayer: images of a roidb and of a database, their boxes and regions."""

import numpy as np
import pytest

from helpers import proposals
from helpers.nets import net_from_text
from minicaffe.data.annotations.records import Box, annotated_datum
from minicaffe.data.db import open_db
from minicaffe.data.image import encode_image
from minicaffe.errors import DataError, LayerError, UsageError
from minicaffe.layers.extensions.faster_rcnn.images import image_scale
from minicaffe.layers.extensions.faster_rcnn.order import ImageOrder
from minicaffe.proto import caffe_pb2
from minicaffe.testing import assert_close

MEANS = [10, 20, 30]
SETTINGS = "'num_classes': 4\\n'scales': [30]\\n'max_size': 50\\n'pixel_means': [10, 20, 30]\\n"


def data_net(more="", tops="data im_info gt_boxes"):
    tops = "".join(f'top: "{top}" ' for top in tops.split())
    return net_from_text(f"""layer {{ name: "data" type: "Python" {tops} python_param {{ module: "roi_data_layer.layer"
        layer: "RoIDataLayer" param_str: "{SETTINGS}{more}" }} }}""")


REGIONS = "data rois labels bbox_targets bbox_inside_weights bbox_outside_weights"


def picture(number, height, width):
    return np.random.default_rng(number).integers(0, 256, (3, height, width)).astype(np.uint8)


@pytest.fixture
def roidb(tmp_path):
    """Four images of one colour each, with one annotated box each and one proposed box."""
    entries = []
    for n, (height, width) in enumerate([(20, 30), (15, 45), (30, 20), (40, 10)]):
        path = tmp_path / f"{n}.png"
        path.write_bytes(encode_image(np.full((3, height, width), 40 * n, np.uint8), "png"))
        boxes = np.array([[1, 2, 6 + n, 8], [2, 2, 6 + n, 8]], np.uint16)
        entries.append({"image": str(path), "boxes": boxes, "gt_classes": np.array([1 + n % 3, 0]), "flipped": False,
                        "width": width, "height": height})  # fmt: skip
    return entries


def number_of(net):
    """Which image of `roidb` a batch has."""
    return round((float(net.blobs["data"].data[0, 0, 0, 0]) + MEANS[0]) / 40)


def test_images_and_boxes(roidb):
    net, seen = data_net(), []
    net.layers[0].set_roidb(roidb)
    for _ in range(4):
        net.forward()
        n = number_of(net)
        seen.append(n)
        height, width = roidb[n]["height"], roidb[n]["width"]
        scale = min(30 / min(height, width), 50 / max(height, width))
        data, info, truth = (net.blobs[name].data for name in ("data", "im_info", "gt_boxes"))
        assert data.shape == (1, 3, round(height * scale), round(width * scale))
        assert_close(data[0, :, 0, 0], 40 * n - np.array(MEANS), rtol=1e-6)
        assert_close(info, [[*data.shape[2:], scale]], rtol=1e-6)
        assert_close(truth, [[*(roidb[n]["boxes"][0] * scale), 1 + n % 3]], rtol=1e-6)
    assert sorted(seen) == [0, 1, 2, 3]


def test_flipped_images(tmp_path, roidb):
    image = picture(0, 30, 30)
    (tmp_path / "a.png").write_bytes(encode_image(image, "png"))
    entry = dict(roidb[0], image=str(tmp_path / "a.png"), flipped=True)
    net = data_net()
    net.layers[0].set_roidb([entry])
    net.forward()
    assert_close(net.blobs["data"].data[0], image[:, :, ::-1] - np.reshape(MEANS, (3, 1, 1)), rtol=1e-6)
    assert_close(net.blobs["gt_boxes"].data[0, :4], entry["boxes"][0], rtol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "scale"), [(300, 400, 2), (300, 600, 10 / 6), (500, 300, 2), (300, 500, 2)]
)
def test_scale_of_an_image(height, width, scale):
    assert image_scale(height, width, 600, 1000) == scale


def test_regions(roidb):
    """Regions of two images, with the codes of the annotated boxes relative to them."""
    net = data_net("'batch_size': 2\\n'fg_fraction': 1", REGIONS)
    net.layers[0].set_roidb(roidb)
    for _ in range(3):
        net.forward()
        rois, labels, targets, inside, outside = (net.blobs[name].data for name in REGIONS.split()[1:])
        assert rois.shape == (2, 5, 1, 1) and labels.shape == (2, 1, 1, 1) and targets.shape == (2, 16, 1, 1)
        data = net.blobs["data"].data
        for n, roi in enumerate(rois[:, :, 0, 0]):
            which = round((data[n, 0, 0, 0] + 10) / 40)
            entry, label = roidb[which], int(labels[n, 0, 0, 0])
            scale = min(30 / min(entry["height"], entry["width"]), 50 / max(entry["height"], entry["width"]))
            found = [i for i, box in enumerate(entry["boxes"]) if np.allclose(box * scale, roi[1:])]
            assert roi[0] == n and found and label == 1 + which % 3
            expected = np.divide(
                proposals.encode(entry["boxes"][found[0]] * 1.0, entry["boxes"][0]), [0.1, 0.1, 0.2, 0.2]
            )
            assert_close(targets[n, 4 * label : 4 * label + 4, 0, 0], expected, rtol=1e-5)
            assert inside[n, 4 * label : 4 * label + 4].all() and inside[n].sum() == 4
            assert (outside == inside).all()


def test_no_region_is_an_object_or_background(roidb):
    net = data_net("'batch_size': 4\\n'fg_fraction': 0", REGIONS)
    net.layers[0].set_roidb(roidb)
    net.forward()
    assert [net.blobs[name].shape[0] for name in REGIONS.split()] == [2, 0, 0, 0, 0, 0]


def test_regions_of_a_prepared_roidb(roidb):
    for entry in roidb:
        entry |= {"max_overlaps": np.array([0.9, 0.2]), "max_classes": np.array([2, 3]),
                  "bbox_targets": np.array([[2, 0.5, 1, 1.5, 2], [0, 0, 0, 0, 0]])}  # fmt: skip
    net = data_net("'batch_size': 4\\n'fg_fraction': 0.5", REGIONS)
    net.layers[0].set_roidb(roidb)
    net.forward()
    labels, targets = net.blobs["labels"].data[:, 0, 0, 0], net.blobs["bbox_targets"].data
    assert labels.tolist() == [2, 0, 2, 0]
    assert targets[0, :, 0, 0].tolist() == [0] * 8 + [0.5, 1, 1.5, 2] + [0] * 4 and not targets[1].any()


def test_an_order_takes_each_image_once_in_a_pass():
    order = ImageOrder(5, 1)
    passes = [[order.take(1)[0] for _ in range(5)] for _ in range(4)]
    assert all(sorted(each) == list(range(5)) for each in passes) and len(set(map(tuple, passes))) > 1


def test_pairs_of_wide_images():
    order = ImageOrder(9, 1, [True] * 5 + [False] * 4)
    for _ in range(5):
        pairs = [order.take(2) for _ in range(4)]
        assert sum((a < 5) != (b < 5) for a, b in pairs) <= 1


def test_a_position_gives_the_same_images_again(roidb):
    net = data_net("'use_flipped': false")
    net.layers[0].set_roidb(roidb)
    net.forward()
    state = net.layers[0].state()

    def following():
        numbers = []
        for _ in range(7):
            net.forward()
            numbers.append(number_of(net))
        return numbers

    first = following()
    net.layers[0].load_state(state)
    assert following() == first
    net = data_net()
    net.layers[0].load_state(state)  # before the script gives it the roidb
    net.layers[0].set_roidb(roidb)
    assert following() == first


@pytest.fixture
def database(tmp_path):
    """Two images with boxes, one without, one whose only box is difficult; encoded and as pixels."""
    images = [picture(n, 30, 40) for n in range(4)]
    boxes = [
        [Box(1, 0.25, 0.5, 0.75, 1)],
        [Box(2, 0, 0, 0.5, 0.5), Box(3, 0, 0, 1, 1, True)],
        [],
        [Box(1, 0, 0, 1, 1, True)],
    ]
    with open_db(tmp_path / "lmdb", "lmdb", "w") as out:
        for n, (image, found) in enumerate(zip(images, boxes)):
            datum = caffe_pb2.Datum(data=encode_image(image, "png"), encoded=True)
            if n == 1:
                datum = caffe_pb2.Datum(channels=3, height=30, width=40, data=image.tobytes())
            out.put(f"{n:03}", annotated_datum(datum, found).SerializeToString())
    return str(tmp_path / "lmdb"), images


def test_images_of_a_database(database):
    path, images = database
    net = data_net(f"'source': '{path}'")
    expected = {}
    for n, (box, label) in enumerate([([10, 15, 29, 29], 1), ([0, 0, 19, 14], 2)]):
        expected[n, False] = [*box, label]
        expected[n, True] = [39 - box[2], box[1], 39 - box[0], box[3], label]
    for _ in range(4):
        net.forward()
        pixels = net.blobs["data"].data[0] + np.reshape(MEANS, (3, 1, 1))
        (key,) = [
            (n, flip) for n, flip in expected if np.allclose(images[n][:, :, :: -1 if flip else 1], pixels, atol=1e-3)
        ]
        assert_close(net.blobs["gt_boxes"].data, [expected.pop(key)], rtol=1e-6)
    assert not expected
    assert len(data_net(f"'source': '{path}'\\n'use_flipped': no\\n'use_difficult': yes").layers[0].records) == 3


def test_a_database_of_other_records(tmp_path):
    with open_db(tmp_path / "lmdb", "lmdb", "w") as out:
        out.put("a", b"\xff\xff\xff")
    with pytest.raises(DataError, match="is no AnnotatedDatum"):
        data_net(f"'source': '{tmp_path / 'lmdb'}'")


OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox></object>"""


def test_images_of_a_voc_folder(tmp_path):
    """Edges are counted from 1 there; difficult objects are left out."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/trainval.txt").write_text("a\n")
    (tmp_path / "JPEGImages/a.png").write_bytes(encode_image(picture(0, 30, 40), "png"))
    objects = OBJECT.format("bicycle", 0, 3, 5, 20, 30) + OBJECT.format("dog", 1, 1, 1, 40, 30)
    (tmp_path / "Annotations/a.xml").write_text(f"<annotation>{objects}</annotation>")
    net = data_net(f"'source': '{tmp_path}'\\n'use_flipped': false")
    net.forward()
    assert net.blobs["gt_boxes"].data.tolist() == [[2, 4, 19, 29, 2]]
    label_map = tmp_path / "labels.prototxt"
    label_map.write_text("item { name: 'bicycle' label: 3 } item { name: 'dog' label: 1 }")
    net = data_net(f"'source': '{tmp_path}'\\n'label_map_file': '{label_map}'\\n'use_difficult': true")
    assert [record.classes.tolist() for record in net.layers[0].records] == [[3, 1], [3, 1]]
    label_map.write_text("item { name: 'dog' label: 1 }")
    with pytest.raises(DataError, match="has no class 'bicycle'"):
        data_net(f"'source': '{tmp_path}'\\n'label_map_file': '{label_map}'")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entry: entry.pop("boxes"), "entry 1 of the roidb has no 'boxes'"),
        (
            lambda entry: entry.update(gt_classes=np.zeros(3)),
            r"must have boxes \(n, 4\), gt_classes \(n,\), got \(2, 4\)",
        ),
        (lambda entry: entry.update(max_overlaps=np.zeros(3)), "entry 1 of the roidb has 2 boxes, but 3 max_overlaps"),
    ],
)
def test_entries_that_are_wrong(roidb, change, words):
    change(roidb[1])
    with pytest.raises(UsageError, match=words):
        data_net().layers[0].set_roidb(roidb)


def test_errors_name_the_layer(roidb):
    net = data_net()
    with pytest.raises(LayerError, match="it has no images: give 'source' in param_str, or call set_roidb"):
        net.forward()
    with pytest.raises(LayerError, match="there are no images with boxes"):
        net.layers[0].set_roidb([])
    roidb[0]["gt_classes"][0] = 9
    net.layers[0].set_roidb(roidb[:1])
    with pytest.raises(LayerError, match=r"a box of .*0.png has class 9, but 'num_classes' is 4"):
        net.forward()
    with pytest.raises(LayerError, match="takes 0 bottoms and 3 or 6 tops, got 0 and 5"):
        data_net(tops="a b c d e")
    with pytest.raises(LayerError, match="'ims_per_batch' must be 1 with a proposal network"):
        data_net("'ims_per_batch': 2")
