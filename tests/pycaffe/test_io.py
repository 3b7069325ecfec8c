"""minicaffe.io: protos and arrays, images, Transformer."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from minicaffe import io
from minicaffe.core.blob import Blob
from minicaffe.errors import DataError, UsageError
from minicaffe.proto import caffe_pb2


def rng():
    return np.random.default_rng(3)


def test_blobproto_with_the_old_four_axes():
    blob = caffe_pb2.BlobProto(num=1, channels=1, height=4, width=3, data=range(12))
    assert io.blobproto_to_array(blob).shape == (1, 1, 4, 3)


def test_blobproto_round_trip():
    data, diff = rng().random((2, 3, 4), np.float32), rng().random((2, 3, 4), np.float32)
    blob = io.array_to_blobproto(data, diff)
    assert list(blob.shape.dim) == [2, 3, 4]
    np.testing.assert_array_equal(io.blobproto_to_array(blob), data)
    np.testing.assert_array_equal(io.blobproto_to_array(blob, return_diff=True), diff)


def test_blobproto_without_shape_holds_one_value():
    assert io.blobproto_to_array(caffe_pb2.BlobProto(data=[123])) == 123
    with pytest.raises(ValueError, match="100 values.*shape \\(\\)"):
        io.blobproto_to_array(caffe_pb2.BlobProto(data=[0] * 100))


def test_double_blobproto():
    blob = caffe_pb2.BlobProto(double_data=[1.5, 2.5])
    blob.shape.dim.append(2)
    np.testing.assert_array_equal(io.blobproto_to_array(blob), [1.5, 2.5])


def test_diff_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(2,\), got \(3,\)"):
        io.array_to_blobproto(np.zeros(2), np.zeros(3))


def test_blobprotovector_round_trip():
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32([[[4]]])]
    again = io.blobprotovector_str_to_arraylist(io.arraylist_to_blobprotovector_str(arrays))
    assert len(again) == 2
    for a, b in zip(arrays, again, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_datum_round_trip(dtype):
    arr = rng().integers(0, 255, (3, 4, 5)).astype(dtype)
    datum = io.array_to_datum(arr, label=7)
    assert datum.label == 7 and bool(datum.data) == (dtype == np.uint8)
    again = io.datum_to_array(datum)
    again[0, 0, 0] += 1  # the array is writable
    again[0, 0, 0] -= 1
    np.testing.assert_array_equal(again, arr)


def test_datum_label_stays_unset():
    with_label, without = (io.array_to_datum(np.ones((2, 2, 3)), *label) for label in ((1,), ()))
    assert not without.HasField("label")
    assert len(with_label.SerializeToString()) > len(without.SerializeToString())


def test_datum_errors():
    with pytest.raises(ValueError, match="channels, height, width"):
        io.array_to_datum(np.zeros((2, 2)))
    with pytest.raises(DataError, match="encoded"):
        io.datum_to_array(caffe_pb2.Datum(encoded=True, data=b"x"))
    with pytest.raises(DataError, match=r"\(1, 2, 2\), but holds 3"):
        io.datum_to_array(caffe_pb2.Datum(channels=1, height=2, width=2, data=b"abc"))


def test_protos_and_arrays_of_other_kinds():
    with pytest.raises(UsageError, match="expected a BlobProto, got bytes: BlobProto.FromString reads one"):
        io.blobproto_to_array(b"mean")
    with pytest.raises(UsageError, match="expected a Datum, got bytes"):
        io.datum_to_array(caffe_pb2.Datum().SerializeToString())
    with pytest.raises(DataError, match="expected a serialised BlobProtoVector"):
        io.blobprotovector_str_to_arraylist(b"mean")
    with pytest.raises(UsageError, match="array_to_datum: expected an array of numbers, got str"):
        io.array_to_datum("cat.jpg")
    assert io.array_to_datum([[[1, 2]]]).float_data == [1, 2] == io.array_to_blobproto([1, 2]).data


def save(path, array, mode=None):
    Image.fromarray(array, mode).save(path) if mode else Image.fromarray(array).save(path)
    return path


def test_load_image_colours(tmp_path):
    colour = rng().integers(0, 256, (4, 5, 3), np.uint8)
    grey = colour[..., 0]
    path = save(tmp_path / "c.png", colour)
    loaded = io.load_image(path)
    assert loaded.dtype == np.float32 and loaded.shape == (4, 5, 3)
    np.testing.assert_allclose(loaded, colour / 255, rtol=1e-6)
    as_grey = io.load_image(path, color=False)
    assert as_grey.shape == (4, 5, 1)
    np.testing.assert_allclose(as_grey[..., 0], colour @ [0.2125, 0.7154, 0.0721] / 255, rtol=1e-5)
    path = save(tmp_path / "g.png", grey)
    np.testing.assert_allclose(io.load_image(path), np.repeat(grey[..., None], 3, 2) / 255, rtol=1e-6)
    assert io.load_image(str(path), color=False).shape == (4, 5, 1)
    alpha = np.dstack([colour, np.full((4, 5), 9, np.uint8)])
    np.testing.assert_allclose(io.load_image(save(tmp_path / "a.png", alpha)), colour / 255, rtol=1e-6)
    deep = np.array([[0, 65535], [32768, 1]], np.uint16)
    np.testing.assert_allclose(io.load_image(save(tmp_path / "d.png", deep), False)[..., 0], deep / 65535, rtol=1e-6)


def test_load_image_takes_an_open_file(tmp_path):
    colour = rng().integers(0, 256, (4, 5, 3), np.uint8)
    content = save(tmp_path / "c.png", colour).read_bytes()
    np.testing.assert_allclose(io.load_image(BytesIO(content)), colour / 255, rtol=1e-6)
    with pytest.raises(DataError, match="cannot decode the open file: it is no image"):
        io.load_image(BytesIO(b"no picture"))


def test_load_image_errors(tmp_path):
    with pytest.raises(DataError, match="cannot read image .*nothing.jpg: No such file"):
        io.load_image(tmp_path / "nothing.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot decode .*broken.jpg"):
        io.load_image(tmp_path / "broken.jpg")


def slow_resize(im, dims, border):
    """Linear interpolation at pixel centres, one sample at a time; `border` is the value outside the image."""
    old = im.shape[:2]
    out = np.zeros((*dims, im.shape[2]))
    for y, x in np.ndindex(*dims):
        py, px = (y + 0.5) * old[0] / dims[0] - 0.5, (x + 0.5) * old[1] / dims[1] - 0.5
        for iy in (int(np.floor(py)), int(np.floor(py)) + 1):
            for ix in (int(np.floor(px)), int(np.floor(px)) + 1):
                inside = 0 <= iy < old[0] and 0 <= ix < old[1]
                value = im[iy, ix] if inside else np.full(im.shape[2], border)
                out[y, x] += (1 - abs(py - iy)) * (1 - abs(px - ix)) * value
    return out


@pytest.mark.parametrize("dims", [(3, 4), (11, 9), (6, 14)])
def test_resize_image_is_linear_between_pixel_centres(dims):
    im = rng().random((6, 7, 3), np.float32)
    out = io.resize_image(im, dims)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, slow_resize(im, dims, im.min()), atol=1e-6)


def test_resize_image_of_many_channels_maps_corners_on_corners():
    im = rng().random((3, 3, 5), np.float32)
    out = io.resize_image(im, (5, 5))
    np.testing.assert_allclose(out[::2, ::2], im, rtol=1e-6)
    np.testing.assert_allclose(out[1, 1], im[:2, :2].mean((0, 1)), rtol=1e-6)


def test_resize_image_orders():
    im = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    np.testing.assert_array_equal(io.resize_image(im, (2, 2), 0)[..., 0], [[5, 7], [13, 15]])
    ramp = np.tile(np.arange(8, dtype=np.float32), (8, 1))[..., None]
    np.testing.assert_allclose(io.resize_image(ramp, (8, 16), 3)[4, 4:-4, 0], np.arange(4, 12) / 2 - 0.25, atol=1e-6)
    np.testing.assert_array_equal(io.resize_image(np.full((3, 3, 3), 2.0), (5, 4)), np.full((5, 4, 3), 2, np.float32))
    with pytest.raises(UsageError, match="order must be 0 .* got 2"):
        io.resize_image(im, (2, 2), 2)


def test_oversample_places_and_mirrors():
    image = np.arange(5 * 6).reshape(5, 6, 1)
    crops = io.oversample([image, image + 100], (3, 4))
    assert crops.shape == (20, 3, 4, 1) and crops.dtype == np.float32
    corners = [image[y : y + 3, x : x + 4] for y, x in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))]
    np.testing.assert_array_equal(crops[:5], corners)
    np.testing.assert_array_equal(crops[5:10], [c[:, ::-1] for c in corners])
    np.testing.assert_array_equal(crops[10:], crops[:10] + 100)
    with pytest.raises(UsageError, match="7x4 do not fit images of 5x6"):
        io.oversample([image], (7, 4))


def full_transformer(shape=(1, 3, 4, 5)):
    transformer = io.Transformer({"data": shape})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 0, 1))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.array([1.0, 2.0, 3.0]))
    transformer.set_input_scale("data", 0.5)
    return transformer


def test_transformer_order_of_steps():
    image = rng().random((4, 5, 3), np.float32)
    before = image.copy()
    out = full_transformer().preprocess("data", image)
    expected = (image.transpose(2, 0, 1)[[2, 0, 1]] * 255 - np.array([1, 2, 3])[:, None, None]) * 0.5
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(image, before)


def test_transformer_deprocess_inverts():
    image = rng().random((4, 5, 3), np.float32)
    transformer = full_transformer()
    np.testing.assert_allclose(transformer.deprocess("data", transformer.preprocess("data", image)), image, atol=1e-6)


def test_transformer_resizes_image_and_mean():
    transformer = io.Transformer({"data": (1, 3, 4, 5)})
    transformer.set_transpose("data", (2, 0, 1))
    image = rng().random((8, 10, 3), np.float32)
    np.testing.assert_allclose(
        transformer.preprocess("data", image), io.resize_image(image, (4, 5)).transpose(2, 0, 1), rtol=1e-6
    )
    mean = rng().random((3, 8, 10))
    transformer.set_mean("data", mean)
    assert transformer.mean["data"].shape == (3, 4, 5)


def test_transformer_errors():
    transformer = io.Transformer({"data": (1, 3, 4, 5)})
    with pytest.raises(UsageError, match="'dat' is not one of the net inputs: \\['data'\\]"):
        transformer.preprocess("dat", np.zeros((4, 5, 3)))
    with pytest.raises(UsageError, match="3 axes"):
        transformer.set_transpose("data", (1, 0))
    with pytest.raises(UsageError, match="3 channels, got an order of 2"):
        transformer.set_channel_swap("data", (1, 0))
    with pytest.raises(ValueError, match="3 channels, the mean 4"):
        transformer.set_mean("data", np.zeros(4))
    with pytest.raises(ValueError, match="Mean shape invalid"):
        transformer.set_mean("data", np.zeros((1, 3, 4, 5)))
    with pytest.raises(ValueError, match="incompatible"):
        transformer.set_mean("data", np.zeros((2, 4, 5)))


# -- shapes that do not fit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 8, 6), (1, 3, 1, 6), (1, 3, 8, 1), (1, 1, 1, 1), (1, 1, 8, 1)])
@pytest.mark.parametrize("mean", [None, "channels", "image"])
@pytest.mark.parametrize("batch", [False, True])
def test_deprocess_inverts_with_axes_of_length_1(shape, mean, batch):
    transformer = io.Transformer({"data": shape})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_raw_scale("data", 255)
    transformer.set_channel_swap("data", range(shape[1])[::-1])
    if mean:
        transformer.set_mean("data", 50 * rng().random(shape[1:2] if mean == "channels" else shape[1:]))
    image = rng().random((*shape[2:], shape[1]), np.float32)
    x = transformer.preprocess("data", image)
    back = transformer.deprocess("data", x[np.newaxis] if batch else x)
    assert back.shape == image.shape
    np.testing.assert_allclose(back, image, atol=1e-5)


def test_deprocess_of_other_sizes_and_types():
    grey, colour = (io.Transformer({"data": (1, k, 8, 6)}) for k in (1, 3))
    for transformer in (grey, colour):
        transformer.set_transpose("data", (2, 0, 1))
        transformer.set_raw_scale("data", 2)
    assert colour.deprocess("data", np.ones((1, 3, 4, 5))).shape == (4, 5, 3)
    assert (
        grey.deprocess("data", np.ones((1, 1, 4, 5))).shape
        == (4, 5, 1)
        == grey.deprocess("data", np.ones((4, 5))).shape
    )
    assert grey.deprocess("data", np.full((1, 8, 6), 3, np.uint8)).max() == 1.5
    with pytest.raises(ValueError, match=r"expected \(K, H, W\) or \(1, K, H, W\), got \(2, 3, 8, 6\)"):
        colour.deprocess("data", np.ones((2, 3, 8, 6)))


def test_deprocess_without_transposition_squeezes_as_the_original():
    transformer = io.Transformer({"data": (1, 1, 4, 5)})
    assert transformer.deprocess("data", np.ones((1, 1, 4, 5))).shape == (4, 5)


def test_preprocess_of_a_grey_image():
    transformer = io.Transformer({"data": (1, 1, 4, 5)})
    grey = rng().random((4, 5), np.float32)
    assert transformer.preprocess("data", grey).shape == (4, 5)
    transformer.set_transpose("data", (2, 0, 1))
    np.testing.assert_array_equal(transformer.preprocess("data", grey), grey[np.newaxis])
    np.testing.assert_array_equal(transformer.preprocess("data", grey[np.newaxis, :, :, np.newaxis]), grey[np.newaxis])
    assert transformer.preprocess("data", rng().random((8, 9))).shape == (1, 4, 5)


@pytest.mark.parametrize(
    "image, sentence",
    [
        (np.zeros((4, 5)), "channel swap needs .* of 3 channels, got \\(1, 4, 5\\)"),
        (np.zeros((4, 5, 1)), "channel swap needs .* of 3 channels, got \\(1, 4, 5\\)"),
        (np.zeros((2, 4, 5, 3)), "expected an image \\(H, W, K\\), got shape \\(2, 4, 5, 3\\)"),
        (np.zeros((0, 5, 3)), "expected an image \\(H, W, K\\), got shape \\(0, 5, 3\\)"),
        (np.zeros((4, 5, 4)), "a mean of shape \\(3, 1, 1\\) does not fit an image of \\(4, 4, 5\\)"),
        ("cat.jpg", "got 'cat.jpg': minicaffe.io.load_image reads files"),
        (None, "expected an array of numbers, got NoneType"),
    ],
)
def test_preprocess_refuses_other_shapes(image, sentence):
    transformer = full_transformer()
    if np.shape(image) == (4, 5, 4):
        del transformer.channel_swap["data"]
    with pytest.raises(UsageError, match="input 'data': .*" + sentence):
        transformer.preprocess("data", image)


@pytest.mark.parametrize("shape", [(1, 3, 28, 28), (1, 1, 28, 28)])
@pytest.mark.parametrize("mean", [(1, 28), (3, 28), (28, 1), (14, 14)])
def test_a_plane_of_another_size_is_no_mean(shape, mean):
    transformer = io.Transformer({"data": shape})
    with pytest.raises(ValueError, match=r"Mean shape incompatible .*, the mean \(" + str(mean[0])):
        transformer.set_mean("data", np.ones(mean))
    transformer.set_mean("data", np.ones((28, 28)))
    transformer.set_mean("data", np.ones((1, 14, 14)))
    assert transformer.mean["data"].shape == (1, 28, 28)


def test_setters_refuse_what_cannot_work():
    transformer = io.Transformer({"data": (1, 3, 4, 5)})
    with pytest.raises(UsageError, match=r"each of the axes 0 to 2 once, got \(2, 1, 3\)"):
        transformer.set_transpose("data", (2, 1, 3))
    with pytest.raises(UsageError, match=r"channels 0 to 2, got \(3, 2, 1\)"):
        transformer.set_channel_swap("data", (3, 2, 1))
    with pytest.raises(UsageError, match="the raw scale of input 'data': expected an array of numbers, got str"):
        transformer.set_raw_scale("data", "255")
    with pytest.raises(UsageError, match=r"\(2, 0, 1\) is not one of the net inputs: \['data'\]"):
        transformer.set_transpose((2, 0, 1), "data")
    for shape in (np.zeros((1, 3, 4, 5)), Blob((1, 3, 4, 5)), 4):
        with pytest.raises(UsageError, match=r"the shape of input 'data', as net.blobs\['data'\].data.shape gives it"):
            io.Transformer({"data": shape})
    with pytest.raises(UsageError, match="the mean of input 'data': expected an array of numbers, got str"):
        transformer.set_mean("data", "mean.npy")


@pytest.mark.parametrize(
    "images, dims, sentence",
    [
        (np.zeros((8, 9, 3)), (4, 4), r"expected a list of images .*, got one array of shape \(8, 9, 3\)"),
        ([np.zeros((8, 9, 3)), np.zeros((9, 9, 3))], (4, 4), r"images of one size, got \[\(8, 9, 3\), \(9, 9, 3\)\]"),
        ([], (4, 4), "images of one size, got none"),
        (["cat.jpg"], (4, 4), "load_image reads files"),
        ([np.zeros((8, 9, 3))], 4, r"crop_dims: expected \(height, width\), both positive, got 4"),
        ([np.zeros((8, 9, 3))], (4,), r"crop_dims: expected \(height, width\)"),
        ([np.zeros((8, 9, 3))], (0, 4), r"crop_dims: expected \(height, width\)"),
    ],
)
def test_oversample_refuses(images, dims, sentence):
    with pytest.raises(UsageError, match="oversample.*" + sentence):
        io.oversample(images, dims)


def test_resize_image_takes_a_plane_and_refuses_what_is_none():
    plane = rng().random((4, 5), np.float32)
    np.testing.assert_array_equal(io.resize_image(plane, (8, 8)), io.resize_image(plane[:, :, np.newaxis], (8, 8)))
    with pytest.raises(UsageError, match=r"new_dims: expected \(height, width\), both positive, got \(0, 4\)"):
        io.resize_image(plane, (0, 4))
    with pytest.raises(ValueError, match=r"expected an image \(H, W, K\), got shape \(0, 4, 3\)"):
        io.resize_image(np.zeros((0, 4, 3)), (2, 2))
