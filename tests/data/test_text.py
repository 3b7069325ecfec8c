"""Text files of users: byte-order marks, line ends, encodings, and files that are not text."""

import pytest

from minicaffe.data.hdf5 import read_file_list
from minicaffe.data.image_list import read_list
from minicaffe.data.windows import read_windows
from minicaffe.errors import DataError, DeviceError
from minicaffe.text import class_names, csv_text, is_utf16, printable, printable_line, read_names, read_text

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def file(tmp_path):
    def write(content):
        (tmp_path / "file").write_bytes(content)
        return tmp_path / "file"

    return write


@pytest.mark.parametrize("content", [b"a\nb\n", b"a\r\nb\r\n", b"a\rb\r", BOM + b"a\nb\n", BOM + b"a\r\nb\r\n"])
def test_line_ends_and_byte_order_marks(file, content):
    assert read_text(file(content), "list") == "a\nb\n"
    assert read_names(file(content), "list") == ["a", "b"]


def test_class_names_are_counted(file):
    path = file(b"cat\n\n dog\r\n\xff\n")
    assert class_names(path) == class_names(path, 3) == ["cat", "dog", "\ufffd"]
    with pytest.raises(DataError, match="file': expected 4 names, one for each class, got 3"):
        class_names(path, 4)


def test_names_in_other_encodings(file):
    (name,) = read_names(file("é.png".encode("latin-1")), "list")
    assert name.encode("utf-8", "surrogateescape") == "é.png".encode("latin-1")
    assert read_names(file("é".encode("latin-1")), "list", errors="replace") == ["\ufffd"]
    assert read_names(file("a\x85b\u2028c\n".encode()), "list") == ["a\x85b\u2028c"]  # not line ends


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16(file, encoding):
    for read in (read_list, read_file_list, lambda path: read_windows(path, "", 0.5, 0.5)):
        with pytest.raises(DataError, match="file is UTF-16: save it as UTF-8"):
            read(file("a.png 1\n".encode(encoding)))


def test_binary_files(file):
    assert not is_utf16(b"\x08\0\x12\0")
    for read in (read_list, read_file_list, lambda path: read_windows(path, "", 0.5, 0.5)):
        with pytest.raises(DataError, match="file must be text, but it is an HDF5 file"):
            read(file(b"\x89HDF\r\n\x1a\n\0"))
        with pytest.raises(DataError, match="file must be text, but it is a binary file"):
            read(file(b"a\0b"))
        with pytest.raises(DataError, match="cannot read .*none: No such file"):
            read("none")


def test_lists_with_a_byte_order_mark(file):
    assert read_list(file(BOM + b"a b.png 3\r\nc.png -1\r\n")) == [("a b.png", 3), ("c.png", -1)]
    assert read_file_list(file(BOM + b"a.h5\n")) == ["a.h5"]
    assert read_windows(file(BOM + b"# 0\na.png\n3\n9\n9\n1\n1 0.9 0 0 7 7\n"), "", 0.5, 0.5)[0][0].path == "a.png"


@pytest.mark.parametrize("label", ["2147483648", "-2147483649", "4000000000", "9" * 30])
def test_labels_beyond_32_bits(file, label):
    with pytest.raises(
        DataError, match=rf"file, line 2: label {label} is beyond 32 bits: expected -2147483648 to 21474"
    ):
        read_list(file(f"a.png 1\nb.png {label}\n".encode()))
    with pytest.raises(DataError, match=f"file, line 7: the class of a window {label} is beyond 32 bits"):
        read_windows(file(f"# 0\na.png\n3\n9\n9\n1\n{label} 0.9 0 0 7 7\n".encode()), "", 0.5, 0.5)


@pytest.mark.parametrize("label", ["2147483647", "-2147483648", "+7"])
def test_labels_of_32_bits(file, label):
    assert read_list(file(f"a.png {label}\n".encode())) == [("a.png", int(label))]


@pytest.mark.parametrize("label", ["1_000", "٣", "1.0", "0x1", ""])
def test_labels_that_are_no_numbers(file, label):
    with pytest.raises(DataError, match='file, line 1: expected "path label"'):
        read_list(file(f"a.png {label}\n".encode()))


# -- as it is displayed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("conv1 é 漢 \U0001f600 ×", "conv1 é 漢 \U0001f600 ×"),
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[31mred\x07\r", r"\x1b[31mred\x07\x0d"),
        ("\0\x7f\x9b\x85", r"\x00\x7f\x9b\x85"),
        ("\u202etxt.exe\u2066", r"\u202etxt.exe\u2066"),
        ("\u2028\ufffe\uffff\ud800", r"\u2028\ufffe\uffff\ud800"),
        (b"\xff\x80".decode("utf-8", "surrogateescape"), r"\xff\x80"),
    ],
)
def test_control_characters_are_escaped(text, expected):
    assert printable(text) == expected
    assert str(DataError(text)) == printable_line(text)
    assert str(DeviceError(text)) == expected
    assert DataError(text).args == (text,)


def test_names_in_one_line():
    assert printable_line("a\nb\tc\x1b") == r"a\nb\tc\x1b"


def test_csv_shows_text_as_text():
    rows = [
        ["name", "=1+1", "+x", "-x", "@x", "\tx", "\rx", "x=1", "a,b", 'a"b', "\x1b[31m"],
        ["", -1, -1.5, "-2.5", "+3"],
    ]
    assert csv_text(rows) == (
        "name,'=1+1,'+x,'-x,'@x,'\tx,'\\x0dx,x=1,\"a,b\",\"a\"\"b\",\\x1b[31m\n,-1,-1.5,-2.5,+3\n"
    )
    assert csv_text([["a", "b"]], ";") == "a;b\n"
