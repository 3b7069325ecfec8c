"""The inputs of a net: what is found in folders, lists, databases, arrays and streams, and in which order."""

import io

import numpy as np
import pytest
from PIL import Image

from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db
from minicaffe.data.image import encode_image
from minicaffe.errors import DataError
from minicaffe.inference.inputs import find_inputs
from minicaffe.inference.plain import Plain
from minicaffe.inference.preprocessing import Block, Preprocessing
from minicaffe.inference.stream import Stream
from minicaffe.proto import caffe_pb2

SHAPE = (1, 3, 6, 5)


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A working folder with a folder of images that are filled with 10, 20, ..."""
    monkeypatch.chdir(tmp_path)
    for i, path in enumerate(["p/a.png", "p/sub/b.PNG", "p/z.jpg", "p/.hidden.png", "p/note.md"]):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("md"):
            (tmp_path / path).write_text("no image")
        else:
            Image.fromarray(np.full((7, 8, 3), 10 * (i + 1), np.uint8)).save(tmp_path / path)
    return tmp_path


def found(*words, **options):
    """Names, labels and first values of the inputs."""
    inputs = find_inputs(words, **options)
    preprocessing = Preprocessing(Block(), SHAPE)
    items = list(inputs)
    assert inputs.count in (None, len(items))
    rows = preprocessing.batch([item.load(preprocessing) for item in items])
    return [(item.name, item.label, round(float(row[0, 0, 0]))) for item, row in zip(items, rows)]


def test_images_and_folders(images):
    assert found("p") == [("p/a.png", None, 10), ("p/sub/b.PNG", None, 20), ("p/z.jpg", None, 30)]
    assert found("p/z.jpg", "p/sub") == [("p/z.jpg", None, 30), ("p/sub/b.PNG", None, 20)]


def test_lists_with_labels_and_without(images):
    (images / "labelled.txt").write_bytes("\ufeffa.png 3\r\nsub/b.PNG   -1\n\n".encode())
    (images / "plain.txt").write_text("p/a.png\np/z.jpg\n")
    (images / "space.txt").write_text("p/a 1.png\n")
    Image.fromarray(np.full((4, 4, 3), 77, np.uint8)).save("p/a 1.png")
    assert found("labelled.txt", root="p/") == [("p/a.png", 3, 10), ("p/sub/b.PNG", -1, 20)]
    assert find_inputs(["labelled.txt"]).labelled and not find_inputs(["plain.txt"]).labelled
    assert found("plain.txt", "space.txt") == [("p/a.png", None, 10), ("p/z.jpg", None, 30), ("p/a 1.png", None, 77)]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("a.png 1\nb.png\n", "list.txt, line 2: expected \"path label\" .* got 'b.png': there is no label behind"),
        ("a.png\n\nb.png 1\n", "list.txt, line 1: expected \"path label\" .* got 'a.png'"),
        ("a.png 1\nb.png 1.0\n", "list.txt, line 2: .*: labels of image lists are classes; for other values use"),
        ("a.png\t1\nb.png\t2\n", "list.txt, line 1: .*: path and label are separated by a tab, write a space"),
        ("a.png 99999999999\n", "list.txt, line 1: label 99999999999 is beyond 32 bits"),
    ],
)
def test_lists_are_read_as_by_image_data(images, content, error):
    (images / "list.txt").write_text(content)
    with pytest.raises(DataError, match=error):
        find_inputs(["list.txt"])


def test_a_listed_image_that_does_not_exist(images):
    (images / "list.txt").write_text('"p/a.png" 1\n')
    with pytest.raises(DataError, match="the list has quotes around the path: write p/a.png"):
        found("list.txt")
    (images / "list.txt").write_text("a.png\n")
    with pytest.raises(DataError, match="the root folder is put before each path as it is: write 'p/', with a slash"):
        found("list.txt", root="p")


@pytest.mark.parametrize(
    ("label", "text"), [(np.nan, "nan"), (0.5, "0.5"), (np.inf, "inf"), (1e300, r"1e\+300"), (2.0**31, r".*")]
)
def test_labels_of_an_archive_are_whole_numbers(images, label, text):
    np.savez("z.npz", images=np.zeros((2, 3, 6, 5)), labels=[0, label])
    with pytest.raises(DataError, match=f"'z.npz': labels must be whole numbers of 32 bits, got {text} at 1$"):
        find_inputs(["z.npz"])
    np.savez("z.npz", images=np.zeros((2, 3, 6, 5)), labels=[0.0, -1.0])
    assert [item.label for item in find_inputs(["z.npz"])] == [0, -1]


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_databases_of_pixels_and_of_encoded_images(images, backend):
    pixels = np.full((3, 6, 5), 40, np.uint8)
    encoded = caffe_pb2.Datum(data=encode_image(np.full((3, 9, 9), 50, np.uint8), "png"), encoded=True, label=2)
    with open_db("db", backend, "w") as database:
        database.put("0", array_to_datum(pixels, 1).SerializeToString())
        database.put("1", encoded.SerializeToString())
    assert found("db") == [("db:0", 1, 40), ("db:1", 2, 50)]
    assert find_inputs(["db"]).labelled


def test_rgb_reverses_encoded_images_but_no_stored_pixels(images):
    color = np.stack([np.full((6, 5), value, np.uint8) for value in (1, 2, 3)])
    encoded = caffe_pb2.Datum(data=encode_image(color, "png"), encoded=True)
    with open_db("db", "lmdb", "w") as database:
        database.put("0", array_to_datum(color, 1).SerializeToString())
        database.put("1", encoded.SerializeToString())
    rgb = Preprocessing(Block().changed(rgb=True), SHAPE)
    stored, reversed_ = (item.load(rgb) for item in find_inputs(["db"]))
    assert np.array_equal(stored, color) and np.array_equal(reversed_, color[::-1])


def test_arrays(images):
    rows = np.arange(4 * 3 * 6 * 5, dtype=np.float64).reshape(4, 3, 6, 5)
    np.save("rows.npy", rows)
    np.savez("rows.npz", images=rows, labels=np.arange(4), note=np.array("text"))
    np.savez("one.npz", anything=rows[:1])
    assert found("rows.npy") == [(f"rows.npy[{i}]", None, 90 * i) for i in range(4)]
    assert found("rows.npz") == [(f"rows.npz[{i}]", i, 90 * i) for i in range(4)]
    assert found("one.npz") == [("one.npz[0]", None, 0)]


def test_standard_input(images):
    assert found("-", stream=io.BytesIO(b"p/a.png\n\n p/z.jpg \r\n")) == [("p/a.png", None, 10), ("p/z.jpg", None, 30)]
    for path in ("p/a.png", "p/z.jpg"):
        assert [name for name, _, _ in found("-", stream=io.BytesIO((images / path).read_bytes()))] == ["-"]
    assert found("-", stream=io.BytesIO(b"")) == []


class Pipe(io.RawIOBase):
    """What has been written to a pipe that is still open: reading more would wait."""

    def __init__(self, *written: bytes) -> None:
        self.written = list(written)

    def readable(self):
        return True

    def readinto(self, buffer):
        assert self.written, "reads more than has been written"
        buffer[: len(self.written[0])] = self.written[0]
        return len(self.written.pop(0))


def test_a_pipe_that_stays_open(images):
    items = iter(find_inputs(["-"], stream=io.BufferedReader(Pipe(b"a.png\n", b"p/a.png\np/longer than 16.png\n"))))
    assert [next(items).name for _ in range(3)] == ["a.png", "p/a.png", "p/longer than 16.png"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "PCX", "SGI"])
@pytest.mark.parametrize("size", [(8, 7), (300, 10)])
def test_the_bytes_of_an_image(images, kind, size):
    content = io.BytesIO()
    Image.new("RGB", size, (70, 70, 70)).save(content, kind)
    assert [name for name, _, _ in found("-", stream=io.BytesIO(content.getvalue()))] == ["-"]


@pytest.mark.parametrize("name", ["BMW.jpg", "P6.png", "GIF89a of a cat.gif", "a"])
def test_names_that_begin_as_an_image(images, name):
    items = find_inputs(["-"], stream=io.BytesIO(f"{name}\nb.png".encode()))
    assert [item.name for item in items] == [name, "b.png"]


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("absent.jpg", "there is no file or folder 'absent.jpg'"),
        ("empty", "folder 'empty' holds no image and is no database"),
        ("empty.txt", "image list empty.txt is empty"),
        ("utf16.txt", "image list utf16.txt is UTF-16"),
        ("flat.npy", r"'flat.npy': expected images \(N, C, H, W\), got shape \(3,\)"),
        ("two.npz", "'two.npz' must hold one array of images, or one of the name images or data or x, got a, b"),
        ("none.npz", "'none.npz' must hold one array of images, or one of the name .*, got none"),
        ("labels.npz", r"'labels.npz': expected 2 labels, got an array of shape \(3,\)"),
        ("bad.npz", "cannot read the arrays 'bad.npz': it is damaged"),
        ("no.npz", "cannot read the arrays 'no.npz': it is no .npz file"),
    ],
)
def test_what_is_no_input(images, word, error):
    (images / "empty").mkdir()
    (images / "empty.txt").write_text("\n")
    (images / "utf16.txt").write_bytes("p/a.png\n".encode("utf-16"))
    np.save("flat.npy", np.zeros(3))
    np.savez("two.npz", a=np.zeros((1, 2)), b=np.zeros((1, 2)))
    np.savez("none.npz", text=np.array(["a"]))
    np.savez("labels.npz", images=np.zeros((2, 2)), labels=np.zeros(3))
    (images / "bad.npz").write_bytes((images / "two.npz").read_bytes()[:-30])
    (images / "no.npz").write_bytes(b"text")
    with pytest.raises(DataError, match=error):
        find_inputs([word])


def test_an_archive_that_expands_too_far(images, monkeypatch):
    monkeypatch.setenv("MINICAFFE_MAX_EXPANDED", "100000")
    np.savez_compressed("zeros.npz", images=np.zeros((1000, 1000)))
    with pytest.raises(DataError, match="expands to more than the environment variable MINICAFFE_MAX_EXPANDED allows"):
        find_inputs(["zeros.npz"])


# -- batches -----------------------------------------------------------------------------------------------------------


def batches(*words, **options):
    stream = Stream(find_inputs(words), Preprocessing(Block(), SHAPE), 2, **options)
    try:
        return list(stream)
    finally:
        stream.close()


@pytest.mark.parametrize("threads", [1, 4])
def test_batches_are_in_order(images, threads):
    made = batches("p", "p", "p/a.png", threads=threads)
    assert [len(batch.names) for batch in made] == [2, 2, 2, 1]
    names = ["p/a.png", "p/sub/b.PNG", "p/z.jpg"]
    assert [name for batch in made for name in batch.names] == [*names, *names, names[0]]
    firsts = [round(float(row[0, 0, 0])) for batch in made for row in batch.images]
    assert firsts == [10, 20, 30, 10, 20, 30, 10]
    assert all(batch.images.shape[1:] == SHAPE[1:] and batch.images.dtype == np.float32 for batch in made)


@pytest.mark.parametrize("threads", [1, 4])
def test_damaged_images(images, threads):
    (images / "p" / "b.jpg").write_bytes(b"\xff\xd8 no image")
    (images / "p" / "c.png").write_bytes(b"")
    with pytest.raises(DataError, match="cannot decode p/b.jpg"):
        batches("p", threads=threads)
    made = batches("p", threads=threads, skip_bad=True)
    assert [batch.names for batch in made] == [["p/a.png"], ["p/sub/b.PNG"], ["p/z.jpg"]]
    problems = [problem for batch in made for problem in batch.problems]
    assert ["p/b.jpg" in problems[0], "p/c.png" in problems[1], len(problems)] == [True, True, 2]


def test_a_damaged_record(images):
    with open_db("db", "lmdb", "w") as database:
        database.put("0", b"\xff\xff")
        database.put("1", array_to_datum(np.zeros((3, 6, 5), np.uint8)).SerializeToString())
    with pytest.raises(DataError, match="record '0' of db is no Datum"):
        batches("db")
    (batch,) = batches("db", skip_bad=True)
    assert batch.names == ["db:1"] and "record '0' of db is no Datum" in batch.problems[0]


def test_arrays_of_another_shape(images):
    for shape in ((2, 3, 6, 5, 1), (2, 6, 5), (2, 4, 6, 5)):
        np.save("rows.npy", np.zeros(shape))
        with pytest.raises(DataError, match=r"rows.npy\[0\]: expected \(C, H, W\) with 3 channels, got shape"):
            batches("rows.npy")
    np.save("rows.npy", np.zeros((2, 6, 5, 3)))
    with pytest.raises(DataError, match="its channels are the last axis"):
        batches("rows.npy")


def test_arrays_that_are_no_images(images):
    np.save("rows.npy", np.arange(6).reshape(3, 2))
    plain = Plain((8, 2), "x")
    stream = Stream(find_inputs(["rows.npy"]), plain, 4)
    (batch,) = stream
    stream.close()
    assert np.array_equal(batch.images, [[0, 1], [2, 3], [4, 5]])
    with pytest.raises(DataError, match=r"p/a.png is an image, but the net's input 'x' reads \(2,\): give arrays"):
        next(iter(find_inputs(["p/a.png"]))).load(plain)
    with pytest.raises(DataError, match=r"here: the net's input 'x' reads \(2,\), got \(3,\)"):
        plain.write(np.zeros(3), np.zeros(2), "here")
