"""Images of all bit depths: pixels as in OpenCV, floats as in scikit-image, or an error."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from minicaffe.data.image import decode_floats, decode_image, read_image, resize
from minicaffe.data.resize import resize_image
from minicaffe.errors import DataError, UsageError

VALUES = np.array([[0, 255, 256, 4096], [32767, 32768, 65279, 65535]], np.uint16)
UPPER = np.array([[0, 0, 1, 16], [127, 128, 254, 255]])  # cv2.imread of VALUES, gray or any channel


def png(depth, color_type, rows):
    """Encode the bytes of rows as a PNG; color_type: 0 gray, 2 RGB, 4 gray and alpha."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", VALUES.shape[1], len(rows), depth, color_type, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(pixels, sample_format=1, order="<", photometric=1):
    """Encode an uncompressed gray TIFF; sample_format: 1 unsigned, 2 signed, 3 float; photometric 0: white is zero."""
    data, (height, width) = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes(), pixels.shape
    longs = {256: width, 257: height, 278: height, 279: len(data), 273: 8 + 2 + 12 * 10 + 4}
    shorts = {258: 8 * pixels.itemsize, 259: 1, 262: photometric, 277: 1, 339: sample_format}
    entries = [(tag, struct.pack(order + "HIHH", 3, 1, value, 0)) for tag, value in shorts.items()]
    entries += [(tag, struct.pack(order + "HII", 4, 1, value)) for tag, value in longs.items()]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    return head + b"".join(struct.pack(order + "H", t) + e for t, e in sorted(entries)) + bytes(4) + data


def saved(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def pgm(kind, largest, values, comment=""):
    head = f"{kind}\n{comment}{values.shape[1]} {len(values)}\n{largest}\n".encode()
    if kind == "P2":
        return head + "\n".join(" ".join(map(str, row)) for row in values.tolist()).encode()
    return head + values.astype(">u2" if largest > 255 else "u1").tobytes()


SIXTEEN_BITS = {
    "png": saved(VALUES, "PNG"),
    "tiff": saved(VALUES, "TIFF"),
    "deflated tiff": saved(VALUES, "TIFF", compression="tiff_adobe_deflate"),
    "big-endian tiff": tiff(VALUES, order=">"),
    "tiff with white as zero": tiff(65535 - VALUES, photometric=0),
    "signed tiff": tiff(VALUES.view(np.int16), 2),
    "signed big-endian tiff": tiff(VALUES.view(np.int16), 2, ">"),
    "pgm": pgm("P5", 65535, VALUES),
    "pgm in ascii": pgm("P2", 65535, VALUES),
    "pgm with a smaller maximum": pgm("P5", 40000, VALUES),
    "pgm with a comment": pgm("P5", 65535, VALUES, "# 1 2 3\n"),
}


@pytest.mark.parametrize("name", SIXTEEN_BITS)
@pytest.mark.parametrize("color", [True, False, None])
def test_of_16_bits_the_upper_8_count(name, color):
    pixels = decode_image(SIXTEEN_BITS[name], color)
    assert pixels.dtype == np.uint8 and pixels.shape == (3 if color else 1, 2, 4)
    assert all(np.array_equal(plane, UPPER) for plane in pixels)


def test_16_bits_in_several_channels():
    gray_alpha = png(16, 4, [np.stack([row, row[::-1]], 1).astype(">u2").tobytes() for row in VALUES])
    assert all(np.array_equal(plane, UPPER) for plane in decode_image(gray_alpha, True))
    rgb = png(16, 2, [np.stack([row, row[::-1], row], 1).astype(">u2").tobytes() for row in VALUES])
    blue, green, red = decode_image(rgb)
    assert np.array_equal(blue, UPPER) and np.array_equal(red, UPPER) and np.array_equal(green, UPPER[:, ::-1])


@pytest.mark.parametrize("kind", ["P5", "P2"])
def test_a_pgm_with_a_maximum_below_255(kind):
    values = np.array([[0, 1, 50, 99, 100]])
    scaled = [0, 2, 127, 252, 255]  # OpenCV scales values of ASCII files only, and rounds down
    assert decode_image(pgm(kind, 100, values), False)[0, 0].tolist() == (
        scaled if kind == "P2" else values[0].tolist()
    )


def test_ppm():
    values = np.array([[100, 0, 7, 3, 50, 99]])
    binary = b"P6 2 1 100\n" + bytes(values[0].tolist())
    assert decode_image(binary).tolist() == [[[7, 99]], [[0, 50]], [[100, 3]]]
    deep = b"P6 2 1 65535\n" + (values * 256 + 255).astype(">u2").tobytes()
    assert decode_image(deep).tolist() == [[[7, 99]], [[0, 50]], [[100, 3]]]
    assert decode_image(b"P3 2 1 255 100 0 7 # a comment\n3 50 99").tolist() == [[[7, 99]], [[0, 50]], [[100, 3]]]


@pytest.mark.parametrize("data, sentence", [
    (tiff(VALUES.astype(np.uint32)), "its pixels are 32-bit integers, expected 8 or 16 bits"),
    (tiff(VALUES.astype(np.int32), 2), "its pixels are 32-bit integers, expected 8 or 16 bits"),
    (saved(VALUES.astype(np.int32), "TIFF"), "its pixels are 32-bit integers, expected 8 or 16 bits"),
    (tiff(VALUES.astype(np.float32), 3), "its pixels are 32-bit floats, expected 8 or 16 bits"),
    (pgm("P5", 65535, VALUES)[:-1], "image file is truncated"),
    (pgm("P2", 65535, VALUES)[:-6], "image file is truncated"),
    (SIXTEEN_BITS["png"][:50], "."),
    (b"<html>", "it is no image of a kind that Pillow reads"),
])  # fmt: skip
@pytest.mark.parametrize("color", [True, False, None])
def test_what_cannot_be_decoded_is_named(tmp_path, data, sentence, color):
    (tmp_path / "picture").write_bytes(data)
    with pytest.raises(DataError, match=f"cannot decode .*picture: .*{sentence}"):
        read_image(tmp_path / "picture", color)


def test_the_gray_of_a_jpeg_is_its_luminance():
    colors = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    data = saved(colors, "JPEG", quality=95, subsampling=0)
    with Image.open(io.BytesIO(data)) as image:
        image.draft("YCbCr", image.size)
        luminance = np.asarray(image)[:, :, 0]
    assert np.array_equal(decode_image(data, False)[0], luminance)
    assert decode_image(data).shape == (3, 16, 16)


COLORS = [
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 200, 77), (1, 2, 3), (250, 128, 114), (232, 240, 11), (167, 46, 233)
]  # fmt: skip


@pytest.mark.parametrize("kind, expected", [
    ("PNG", [76, 149, 29, 128, 1, 162, 211, 103]),
    ("BMP", [76, 150, 29, 129, 2, 163, 211, 104]),
    ("TIFF", [76, 150, 29, 129, 2, 163, 211, 104]),
    ("PPM", [76, 150, 29, 129, 2, 163, 211, 104]),
])  # fmt: skip
def test_the_gray_of_colors_is_opencvs(kind, expected):
    data = saved(np.array([COLORS], np.uint8), kind)
    assert decode_image(data, False)[0, 0].tolist() == expected  # cv2.imread(..., cv2.IMREAD_GRAYSCALE)


def test_the_gray_of_a_narrow_image():
    colors = np.random.default_rng(0).integers(0, 256, (700_000, 2, 3)).astype(np.uint8)
    expected = colors.astype(int) @ [9797, 19234, 3737] >> 15
    assert np.array_equal(decode_image(saved(colors, "PNG", compress_level=0), False)[0], expected)


@pytest.mark.parametrize("data, expected", [
    (SIXTEEN_BITS["png"], VALUES / 65535),
    (SIXTEEN_BITS["big-endian tiff"], VALUES / 65535),
    (SIXTEEN_BITS["pgm"], VALUES / 65535),
    (SIXTEEN_BITS["signed tiff"], (VALUES.view(np.int16) / 32767).clip(-1)),
    (tiff(VALUES * np.uint32(65537)), VALUES / 65535),
    (tiff((VALUES * 32768.0).astype(np.int32), 2), VALUES * 32768.0 / (2**31 - 1)),
    (tiff((VALUES / 1000).astype(np.float32), 3), VALUES / 1000),
    (saved(UPPER.astype(np.uint8), "PNG"), UPPER / 255),
])  # fmt: skip
def test_floats_are_parts_of_the_largest_value_of_the_type(data, expected):
    gray, color = decode_floats(data, color=False), decode_floats(data)
    assert gray.dtype == color.dtype == np.float32 and gray.shape == (2, 4, 1) and color.shape == (2, 4, 3)
    np.testing.assert_allclose(gray[..., 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(color, gray.repeat(3, 2))


# -- files of unknown origin -------------------------------------------------------------------------------------------


def png_header(width, height):
    """Return a PNG that has a header, but no pixels."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT"]
    parts = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("size", [(8192, 8193), (20000, 20000), (2**31 - 1, 2**31 - 1)])
def test_the_size_is_checked_before_pixels_are_decoded(tmp_path, size):
    (tmp_path / "large.png").write_bytes(png_header(*size))
    with pytest.raises(DataError, match="large.png has .* pixels, more than 67108864: .*MINICAFFE_MAX_PIXELS raises"):
        read_image(tmp_path / "large.png")


def test_the_limit_can_be_changed(monkeypatch):
    data = saved(np.zeros((5, 4), np.uint8), "PNG")
    monkeypatch.setenv("MINICAFFE_MAX_PIXELS", "19")
    with pytest.raises(DataError, match="encoded image has 4x5 pixels, more than 19"):
        decode_image(data)
    monkeypatch.setenv("MINICAFFE_MAX_PIXELS", "20")
    assert decode_image(data).shape == (1, 5, 4)


def test_a_small_file_of_many_pixels_is_not_decoded_to_floats(monkeypatch):
    monkeypatch.setenv("MINICAFFE_MAX_EXPANDED", "1000")
    data = saved(np.zeros((999, 40), np.uint8), "PNG")
    assert decode_image(data).shape == (1, 999, 40)
    with pytest.raises(DataError, match="has 40x999 pixels, too many for floats: .*MINICAFFE_MAX_EXPANDED raises"):
        decode_floats(data, name="x.png")
    assert decode_floats(saved(np.random.default_rng(0).integers(0, 255, (99, 99)).astype(np.uint8), "BMP")).any()


def test_formats_that_are_not_read():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\n"
    icon = saved(np.zeros((16, 16), np.uint8), "ICO")
    for data in (postscript, icon, b""):
        with pytest.raises(DataError, match="no image of a kind that Pillow reads"):
            decode_image(data)


def test_data_for_which_pillow_raises_other_exceptions(monkeypatch):
    def damaged(*_):
        raise UnboundLocalError("x")

    monkeypatch.setattr(Image.Image, "convert", damaged)
    with pytest.raises(DataError, match=r"cannot decode x: its data are damaged \(UnboundLocalError: x\)"):
        decode_image(saved(UPPER.astype(np.uint8), "PNG"), True, "x")


def test_images_that_would_take_too_long(monkeypatch):
    body = b"\0\0" * 5000
    head = struct.pack("<IiiHHIIiiII", 40, 5000, 5000, 1, 8, 1, len(body), 0, 0, 0, 0)
    with pytest.raises(DataError, match="run-length encoding of 5000x5000 pixels would take too long"):
        decode_image(b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + head + bytes(1024) + body)
    monkeypatch.setattr("minicaffe.data.image_file._MAX_SCANNED", 6 * 200)
    data = saved(np.zeros((10, 20), np.uint8), "JPEG", progressive=True)
    assert decode_image(data).shape == (1, 10, 20)
    scan = data[data.rindex(b"\xff\xc4") : -2]
    with pytest.raises(DataError, match="16 scans of 20x10 pixels would take too long"):
        decode_image(data[:-2] + 10 * scan + data[-2:])


def test_a_tile_larger_than_the_limit():
    tile = zlib.compress(bytes(100))
    tags = {
        256: 16,
        257: 16,
        258: 8,
        259: 8,
        262: 1,
        277: 1,
        322: 16000,
        323: 16000,
        324: 8 + 2 + 120 + 4,
        325: len(tile),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + tile
    with pytest.raises(DataError, match="a tile of x has 16000x16000 pixels|tile size|cannot decode x"):
        decode_image(data, name="x")


def test_a_fifo_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    with pytest.raises(DataError, match="cannot read image .*fifo.png: it is a FIFO, expected a regular file"):
        read_image(tmp_path / "fifo.png")


def test_resizing_to_many_pixels():
    for target in ((10000, 10000), (1, 2**40)):
        with pytest.raises(UsageError, match="resize: an image of .* has more than 67108864 pixels"):
            resize(np.zeros((1, 2, 2), np.uint8), *target)
        with pytest.raises(UsageError, match="resize: an image of .* has more than 67108864 pixels"):
            resize_image(np.zeros((2, 2, 3)), target)
