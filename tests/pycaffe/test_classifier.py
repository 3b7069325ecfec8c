"""Classifier and Detector, on nets whose outputs are known."""

import numpy as np
import pytest
from PIL import Image

import minicaffe as caffe
from minicaffe.errors import DataError, UsageError

# The mean of each channel.
NET = """name: 'means' input: 'data' input_shape { dim: 4 dim: 3 dim: 6 dim: 6 }
    layer { name: 'mean' type: 'Pooling' bottom: 'data' top: 'mean' pooling_param { pool: AVE global_pooling: true } }
    layer { name: 'out' type: 'Scale' bottom: 'mean' top: 'out' }"""


@pytest.fixture
def files(tmp_path):
    path = tmp_path / "deploy.prototxt"
    path.write_text(NET)
    net = caffe.Net(str(path), caffe.TEST)
    weights = str(tmp_path / "w.caffemodel")
    net.save(weights)
    return str(path), weights


def image(height=8, width=10):
    return np.random.default_rng(0).random((height, width, 3), np.float32)


def test_predict_centre(files):
    classifier = caffe.Classifier(
        *files, image_dims=(8, 10), raw_scale=10, channel_swap=(2, 1, 0), mean=np.float32([1, 2, 3])
    )
    out = classifier.predict([image(), image() * 0.5], oversample=False)
    centre = image()[1:7, 2:8].mean((0, 1))
    np.testing.assert_allclose(
        out.reshape(2, 3), [centre[::-1] * 10 - [1, 2, 3], centre[::-1] * 5 - [1, 2, 3]], rtol=1e-4
    )


def test_predict_oversampled(files):
    classifier = caffe.Classifier(*files, image_dims=(8, 10))
    out = classifier.predict([image()])
    crops = caffe.io.oversample([image()], (6, 6))
    assert out.shape == (1, 3)
    np.testing.assert_allclose(out[0], crops.mean((0, 1, 2)), rtol=1e-5)


def test_predict_scales_whole_images_by_default(files):
    out = caffe.Classifier(*files).predict([image(12, 12)], oversample=False)
    np.testing.assert_allclose(out.ravel(), caffe.io.resize_image(image(12, 12), (6, 6)).mean((0, 1)), rtol=1e-5)


@pytest.mark.parametrize("oversample", [True, False])
def test_many_images_are_predicted_in_batches(files, oversample, monkeypatch):
    classifier = caffe.Classifier(*files, image_dims=(8, 10))
    images = [image() * i for i in range(7)]
    expected = np.concatenate([classifier.predict([each], oversample) for each in images])
    sizes, resized = [], caffe.io.resize_image
    monkeypatch.setattr("minicaffe.io.resize_image", lambda *args: sizes.append(0) or resized(*args))
    forward_all = classifier.forward_all
    monkeypatch.setattr(classifier, "forward_all", lambda **inputs: sizes.append(1) or forward_all(**inputs))
    np.testing.assert_array_equal(classifier.predict(np.array(images), oversample), expected)
    assert sizes.count(0) == 7 and sizes.index(1) <= classifier.blobs[classifier.inputs[0]].shape[0]


def test_classifier_errors(files, tmp_path):
    with pytest.raises(UsageError, match="at least one image"):
        caffe.Classifier(*files).predict([])
    with pytest.raises(UsageError, match="6x6, which image_dims"):
        caffe.Classifier(*files, image_dims=(4, 4)).predict([image()], oversample=False)
    no_input = tmp_path / "train.prototxt"
    no_input.write_text("layer { name: 'd' type: 'DummyData' top: 'd' dummy_data_param { shape { dim: 1 } } }")
    caffe.Net(str(no_input), caffe.TEST).save(str(tmp_path / "n.caffemodel"))
    with pytest.raises(UsageError, match="deploy prototxt"):
        caffe.Classifier(str(no_input), str(tmp_path / "n.caffemodel"))


@pytest.mark.parametrize("oversample", [True, False])
@pytest.mark.parametrize(
    "inputs, sentence",
    [
        (image(), r"a list of images \(H, W, K\), got one array of shape \(8, 10, 3\); one image is \[image\]"),
        (image()[..., 0], r"a list of images \(H, W, K\), got one array of shape \(8, 10\)"),
        ("cat.jpg", "a list of images .*, got 'cat.jpg'"),
        (["cat.jpg"], "image 0: expected an image, got 'cat.jpg': minicaffe.io.load_image reads files"),
        ([image(), image()[..., :1]], r"images of as many channels, got \[1, 3\]"),
        ([image(), None], "image 1: expected an array of numbers, got NoneType"),
    ],
)
def test_predict_refuses(files, inputs, sentence, oversample):
    with pytest.raises(UsageError, match="Classifier.predict: .*" + sentence):
        caffe.Classifier(*files).predict(inputs, oversample)


def test_predict_of_planes_generators_and_stacks(tmp_path, files):
    classifier = caffe.Classifier(*files)
    expected = classifier.predict([image(), image()])
    for inputs in (np.stack([image(), image()]), (image() for _ in range(2)), [image()[np.newaxis], image()]):
        np.testing.assert_array_equal(classifier.predict(inputs), expected)
    path = tmp_path / "grey.prototxt"
    path.write_text(NET.replace("dim: 3", "dim: 1"))
    caffe.Net(str(path), caffe.TEST).save(str(tmp_path / "grey.caffemodel"))
    grey = caffe.Classifier(str(path), str(tmp_path / "grey.caffemodel"))
    plane = image()[..., 0]
    np.testing.assert_array_equal(grey.predict([plane]), grey.predict([plane[:, :, np.newaxis]]))
    with pytest.raises(ValueError, match=r"takes images of 1 channel\(s\), \(H, W, 1\), got shape \(\d+, \d+, 3\)"):
        grey.predict([image()])


def test_image_dims_and_outputs(files, tmp_path):
    with pytest.raises(UsageError, match=r"image_dims: expected \(height, width\), both positive, got 256"):
        caffe.Classifier(*files, image_dims=256)
    path = tmp_path / "silent.prototxt"
    path.write_text(NET + "layer { name: 'silence' type: 'Silence' bottom: 'out' }")
    with pytest.raises(UsageError, match="this net has no output"):
        caffe.Classifier(str(path), files[1])


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    return str(tmp_path / "p.png")


def test_detect_windows(files, picture):
    detector = caffe.Detector(*files)
    windows = np.array([[2, 3, 8, 9], [0, 0, 20, 24], [5, 5, 11, 11], [1, 1, 7, 7], [9, 9, 15, 15]])
    found = detector.detect_windows((name, w) for name, w in [(picture, windows[:3]), (picture, windows[3:])])
    assert [d["filename"] for d in found] == [picture] * 5
    im = caffe.io.load_image(picture)
    for detection, window in zip(found, windows):
        np.testing.assert_array_equal(detection["window"], window)
        crop = im[window[0] : window[2], window[1] : window[3]]
        expected = crop if crop.shape[:2] == (6, 6) else caffe.io.resize_image(crop, (6, 6))
        np.testing.assert_allclose(detection["prediction"], expected.mean((0, 1)), rtol=1e-4)
    assert detector.detect_windows([]) == []


def test_context_is_the_image_around_the_window(files, picture):
    detector = caffe.Detector(
        *files, mean=np.float32([0.1, 0.2, 0.3]), channel_swap=(2, 1, 0), raw_scale=2, context_pad=1
    )
    im = caffe.io.load_image(picture)
    inside = detector.crop(im, np.array([6, 6, 11, 11]))
    # (window + 1) grows by 6 / (6 - 2) around its centre: 9 by 9 pixels, from round(9 - 4.5) on
    np.testing.assert_allclose(inside, caffe.io.resize_image(im[4:14, 4:14], (6, 6)), rtol=1e-5)
    corner = detector.crop(im, np.array([0, 0, 5, 5]))
    np.testing.assert_allclose(corner[0], np.tile(np.float32([0.3, 0.2, 0.1]) / 2, (6, 1)), rtol=1e-6)
    assert not np.allclose(corner[3, 3], [0.15, 0.1, 0.05])


def test_detector_errors(files, picture):
    detector = caffe.Detector(*files)
    with pytest.raises(DataError, match="holds no pixel of an image of 20x24"):
        detector.detect_windows([(picture, [[30, 30, 40, 40]])])
    with pytest.raises(UsageError, match="MATLAB"):
        detector.detect_selective_search([picture])
    with pytest.raises(UsageError, match="context_pad of 3"):
        caffe.Detector(*files, context_pad=3)
    with pytest.raises(DataError, match="outside an image"):
        caffe.Detector(*files, context_pad=1).detect_windows([(picture, [[90, 90, 99, 99]])])


@pytest.mark.parametrize("window", [(1, 2, 3), 5, (0, 0, 5, float("nan")), "abcd", [(0, 0, 5, 5)]])
@pytest.mark.parametrize("context_pad", [None, 1])
def test_what_is_no_window(files, picture, window, context_pad):
    with pytest.raises((DataError, UsageError), match="a window"):
        caffe.Detector(*files, context_pad=context_pad).detect_windows([(picture, [window])])


@pytest.mark.parametrize("images_windows", ["a.jpg", {"a.jpg": []}, ("a.jpg", [(0, 0, 1, 1)])])
def test_what_are_no_pairs_of_images_and_windows(files, images_windows):
    with pytest.raises(UsageError, match="pairs of an image file and its windows, got 'a"):
        caffe.Detector(*files).detect_windows(images_windows)
