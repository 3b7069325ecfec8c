"""Conversion of Datum to array and back, and the decoder, which parses most records without protobuf."""

import io

import numpy as np
import pytest
from PIL import Image

from minicaffe.data.datum import DatumDecoder, array_to_datum, datum_to_array
from minicaffe.data.image import decode_image, encode_image, read_image, resize
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)


def test_uint8_and_float_round_trip(image):
    datum = array_to_datum(image, 7)
    assert (datum.channels, datum.height, datum.width, datum.label) == (3, 5, 7, 7)
    assert np.array_equal(datum_to_array(datum), image)
    floats = image.astype(np.float32) / 7
    result = datum_to_array(array_to_datum(floats))
    assert result.dtype == np.float32 and np.array_equal(result, floats)


def test_encoded_images_are_blue_first_planes(image):
    datum = caffe_pb2.Datum(data=encode_image(image, "png"), encoded=True)
    assert np.array_equal(datum_to_array(datum), image)
    gray = datum_to_array(datum, color=False)
    blue, green, red = image.astype(float)
    assert gray.shape == (1, 5, 7)
    assert np.abs(gray[0] - (0.299 * red + 0.587 * green + 0.114 * blue)).max() <= 1
    one = caffe_pb2.Datum(data=encode_image(image[:1], "png"), encoded=True)
    assert np.array_equal(datum_to_array(one), image[:1])
    assert np.array_equal(datum_to_array(one, color=True), np.repeat(image[:1], 3, 0))


def test_bad_shapes_say_so():
    with pytest.raises(DataError, match=r"a Datum holds an array \(C, H, W\), got shape \(4, 4\)"):
        array_to_datum(np.zeros((4, 4)))
    with pytest.raises(DataError, match="Datum has channels x height x width = 3x2x2, but holds 5 values"):
        datum_to_array(caffe_pb2.Datum(channels=3, height=2, width=2, data=b"12345"))


@pytest.mark.parametrize("label", [2**31, -(2**31) - 1, 4000000000])
def test_labels_beyond_32_bits(image, label):
    with pytest.raises(DataError, match=f"a Datum holds a label of 32 bits, got {label}"):
        array_to_datum(image, label)


@pytest.mark.parametrize("label", [0, 1, 127, 128, 300, 2**31 - 1, -1, -(2**31), None])
def test_decoder_takes_the_short_way_with_the_same_result(image, label):
    decoder = DatumDecoder("db")
    first = array_to_datum(image, 3).SerializeToString()
    datum = array_to_datum(255 - image, label)
    value = memoryview(datum.SerializeToString())
    decoder.decode(b"0", first)
    array, got = decoder.decode(b"1", value)
    assert np.array_equal(array, 255 - image) and got == datum.label
    assert np.shares_memory(array, np.frombuffer(value, np.uint8))  # parsed without a copy


@pytest.mark.parametrize("label", [0, 1, 127, 128, 2**31 - 1, -1, None])
def test_decoder_takes_the_short_way_for_floats(image, label, monkeypatch):
    decoder, floats = DatumDecoder("db"), image.astype(np.float32) / 7 - 3
    floats[0, 0, :3] = np.nan, np.inf, -0.0
    decoder.decode(b"0", array_to_datum(image / 3, 3).SerializeToString())
    value = array_to_datum(floats, label).SerializeToString()
    monkeypatch.setattr(caffe_pb2, "Datum", None)  # parsed without protobuf
    array, got = decoder.decode(b"1", memoryview(value))
    assert array.dtype == np.float32 and array.tobytes() == floats.tobytes() and got == (label or 0)


def test_decoder_meets_another_kind_of_record(image):
    decoder = DatumDecoder("db")
    for array in (image, image[:, :4], image.astype(np.float32), image):
        result, label = decoder.decode(b"k", array_to_datum(array, 2).SerializeToString())
        assert label == 2 and result.dtype == array.dtype and np.array_equal(result, array)
    both = array_to_datum(image, 2)
    both.encoded = True
    with pytest.raises(DataError, match="cannot decode record 'k' of db: it is no image of a kind that Pillow reads"):
        decoder.decode(b"k", both.SerializeToString())


def test_decoder_names_the_broken_record(image):
    decoder = DatumDecoder("some_lmdb")
    with pytest.raises(DataError, match="record '00007' of some_lmdb is no Datum"):
        decoder.decode(b"00007", b"\xff\xff\xff")
    with pytest.raises(DataError, match="record '00008' of some_lmdb holds no image"):
        decoder.decode(b"00008", caffe_pb2.Datum(label=1).SerializeToString())


@pytest.mark.parametrize("shape", [(-1, -5, 21), (3, -5, -7), (0, 5, 7), (2**31 - 1, 2**31 - 1, 2**31 - 1)])
def test_sizes_that_cannot_be(shape):
    datum = caffe_pb2.Datum(channels=shape[0], height=shape[1], width=shape[2], data=bytes(105))
    with pytest.raises(DataError, match="Datum has channels x height x width = .*, but holds 105 values"):
        datum_to_array(datum)


def outcome(decoder, value):
    """What `decode` returns, or the kind of its error."""
    try:
        array, label = decoder.decode(b"k", value)
    except DataError as error:
        return str(error)[:40]
    return array.dtype, array.shape, array.tobytes(), label


NINE = b"\x28" + b"\xff" * 9
TAILS = [b"", b"\x28", b"\x28\x80", b"\x28\xff\xff\x7f", NINE + b"\x01", NINE + b"\x7f", NINE + b"\xff\xff\x01",
         b"\x28" + b"\x80" * 5 + b"\x01", b"\x28\x01\x28\x02", b"\x38\x01", b"\x30\x05", b"\xff"]  # fmt: skip


@pytest.mark.parametrize("tail", TAILS)
def test_the_short_way_ends_like_the_long_one(image, tail):
    known, whole = DatumDecoder("db"), array_to_datum(image).SerializeToString()
    known.decode(b"0", whole)
    for value in (whole + tail, whole[:-1] + tail, whole[: len(whole) // 2] + tail):
        assert outcome(known, value) == outcome(DatumDecoder("db"), value)


def test_the_short_way_ends_like_the_long_one_on_damaged_records(image):
    rng, known, whole = np.random.default_rng(0), DatumDecoder("db"), array_to_datum(image, -5).SerializeToString()
    known.decode(b"0", whole)
    for _ in range(3000):
        value, at = bytearray(whole), int(rng.choice([rng.integers(12), len(whole) - rng.integers(1, 14)]))
        for _ in range(int(rng.integers(1, 4))):
            value[at : at + int(rng.integers(3))] = rng.bytes(int(rng.integers(3)))
        assert outcome(known, memoryview(bytes(value))) == outcome(DatumDecoder("db"), memoryview(bytes(value)))


@pytest.mark.parametrize("label", [None, -5, 300])
def test_the_short_way_of_floats_ends_like_the_long_one_on_damaged_records(image, label):
    rng, known = np.random.default_rng(0), DatumDecoder("db")
    known.decode(b"0", array_to_datum(image / 2).SerializeToString())
    whole = array_to_datum(image / 2, label).SerializeToString()
    packed = whole[:-525] + b"\x32\xa4\x03" + (image / 2).astype("<f4").tobytes()
    assert outcome(known, packed) == outcome(known, whole)
    for _ in range(2000):
        value, at = bytearray(whole), int(rng.choice([rng.integers(20), rng.integers(len(whole))]))
        for _ in range(int(rng.integers(1, 4))):
            value[at : at + int(rng.integers(3))] = rng.bytes(int(rng.integers(3)))
        assert outcome(known, memoryview(bytes(value))) == outcome(DatumDecoder("db"), memoryview(bytes(value)))


def test_images_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="cannot read image .*none.png: No such file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match="cannot decode .*text.png"):
        read_image(tmp_path / "text.png")
    with pytest.raises(DataError, match="cannot decode encoded image"):
        decode_image(b"")
    with pytest.raises(DataError, match="cannot encode an image as 'nokind'"):
        encode_image(np.zeros((3, 2, 2), np.uint8), "nokind")


@pytest.mark.parametrize("kind", ["jpg", ".JPEG"])
def test_a_jpeg_has_quality_95_as_opencvs(kind):
    with Image.open(io.BytesIO(encode_image(np.zeros((3, 8, 8), np.uint8), kind))) as image:
        assert image.quantization[0][0] == 2  # 16 in the standard's table of luminance, times 10 percent, rounded


def test_resize_is_bilinear_between_pixel_centres(image):
    ramp = np.arange(8, dtype=np.float32)[None, None].repeat(4, 1)
    assert np.allclose(resize(ramp, 4, 4), np.array([0.5, 2.5, 4.5, 6.5]))  # midpoints of two pixels
    assert np.allclose(resize(ramp, 4, 16)[0, 0, 1:-1], np.arange(14) * 0.5 + 0.25)
    assert resize(image, 5, 7) is image
    assert np.array_equal(resize(np.full((3, 6, 5), 200, np.uint8), 11, 3), np.full((3, 11, 3), 200, np.uint8))
