"""Image files of all formats: the functions that decode them, and the commands that read them from a list."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from fuzz import mutate
from fuzz.kind import Case, Kind
from minicaffe.data.image import decode_floats, decode_image, read_image

_OPTIONS = [
    ("RGB", "PNG", {}), ("L", "PNG", {}), ("P", "PNG", {"transparency": 0}), ("RGBA", "PNG", {}), ("1", "PNG", {}),
    ("I;16", "PNG", {}), ("RGB", "JPEG", {}), ("RGB", "JPEG", {"progressive": True}), ("L", "JPEG", {}),
    ("CMYK", "JPEG", {}), ("RGB", "BMP", {}), ("P", "BMP", {}), ("1", "BMP", {}), ("P", "GIF", {}),
    ("RGB", "TIFF", {}), ("RGB", "TIFF", {"compression": "tiff_lzw"}), ("L", "TIFF", {"compression": "packbits"}),
    ("RGB", "TIFF", {"compression": "tiff_deflate"}), ("1", "TIFF", {"compression": "group4"}), ("I;16", "TIFF", {}),
    ("F", "TIFF", {}), ("RGB", "WEBP", {"lossless": True}), ("RGBA", "WEBP", {}), ("RGB", "PPM", {}), ("L", "PPM", {}),
    ("1", "PPM", {}), ("F", "PPM", {}), ("RGB", "JPEG2000", {}), ("L", "JPEG2000", {}), ("RGB", "PCX", {}),
    ("L", "PCX", {}), ("RGB", "SGI", {}), ("RGB", "TGA", {"compression": "tga_rle"}), ("P", "TGA", {}),
    ("RGB", "AVIF", {"speed": 10}),
]  # fmt: skip
_TEXTS = [b"P3 2 1 255 100 0 7 # a comment\n3 50 99", b"P2\n3 1\n100\n0 50 100", b"P1 2 2 0 1 1 0"]


def _examples():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    found = []
    Image.init()
    for mode, kind, options in _OPTIONS:
        picture = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257 if mode == "I;16" else pixels)
        buffer = io.BytesIO()
        if kind in Image.SAVE:  # AVIF needs a library
            (picture if mode == "I;16" else picture.convert(mode)).save(buffer, kind, **options)
            found.append(buffer.getvalue())
    frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
    for kind in ("GIF", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        found.append(buffer.getvalue())
    return [*found, *_TEXTS, _png_with_texts(frames[0]), _run_length_bmp(), _sun()]


def _png_with_texts(picture):
    texts, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    texts.add_text("a", "b" * 50, zip=True)
    texts.add_itxt("c", "d" * 50, zip=True)
    picture.save(buffer, "PNG", pnginfo=texts, icc_profile=bytes(50), dpi=(72, 72))
    return buffer.getvalue()


def _run_length_bmp():
    body = b"\4\1\2\2\0\0\0\4\1\2\3\4\2\5\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, 6, 2, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024) + head + bytes(1024) + body


def _sun():
    return struct.pack(">8I", 0x59A66A95, 4, 2, 24, 24, 1, 0, 0) + bytes(range(24))


def _change(rng, content):
    if content.startswith(b"\x89PNG") and rng.random() < 0.6:
        return _change_png(rng, content)
    if rng.random() < 0.4:  # of the header
        size = min(len(content), 80)
        return mutate.flip(rng, content[:size]) + content[size:]
    return mutate.flip(rng, content)


def _change_png(rng, content):
    """Change the chunks of a PNG, with their lengths and checksums correct: their data, kinds, order and number."""
    chunks, at = [], 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + length]])
        at += 12 + length
    for _ in range(int(rng.integers(1, 4))):
        chunk = mutate.pick(rng, chunks)
        match int(rng.integers(6)):
            case 0 | 1:
                chunk[1] = mutate.flip(rng, chunk[1])
            case 2 if chunk[0] == b"IDAT":
                chunk[1] = zlib.compress(mutate.flip(rng, bytes(300)) * int(rng.integers(1, 2000)))
            case 3:
                chunk[0] = mutate.pick(rng, [b"tRNS", b"PLTE", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"acTL", b"fcTL"])
            case 4:
                chunks.insert(int(rng.integers(len(chunks))), list(chunk))
            case 5 if len(chunks) > 1:
                chunks.remove(chunk)
    body = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return content[:8] + b"".join(body)


def _case(content):
    colors = [lambda color=color: decode_image(content, color) for color in (None, True, False)]
    return Case({"x": content}, [lambda: read_image("x"), *colors, lambda: decode_floats(content)])


def _list_case(content):
    resize = ["resize_and_crop_images", "--input", "list", "--output_folder", "out", "--output_side_length", "4"]
    convert = ["convert_imageset", "./", "labels", "db", "--backend", "leveldb", "--resize_height", "4"]
    files = {"x.png": content, "list": b"x.png\n", "labels": b"x.png 1\n"}
    return Case(files, [resize, [*convert, "--resize_width", "4"]])


image = Kind("image", _examples, _case, _change)
image_list = Kind("image_list", lambda: _examples()[:12], _list_case, _change)
