"""LMDB and LevelDB databases, the records in them, and the mean images made of them."""

import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np

from fuzz import mutate
from fuzz.kind import Case, Kind
from helpers.nets import net_from_text
from minicaffe.data.datum import DatumDecoder, array_to_datum
from minicaffe.data.db import open_db
from minicaffe.data.image import encode_image
from minicaffe.data.leveldb_store import log_bytes
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2
from minicaffe.varint import varint


def _images(count, size=4):
    return np.random.default_rng(0).integers(0, 256, (count, 3, size, size), np.uint8)


def _files(backend, records):
    """The files of a database, by name."""
    with tempfile.TemporaryDirectory() as folder:
        with open_db(f"{folder}/db", backend, "w") as database:
            for key, value in records:
                database.put(key, value)
        return {path.name: path.read_bytes() for path in Path(folder, "db").iterdir()}


def _records(count, size=4):
    return [(b"%04d" % i, array_to_datum(image, i).SerializeToString()) for i, image in enumerate(_images(count, size))]


def _read(backend):
    """Read the database in the folder db in each way there is."""
    with open_db("db", backend) as database:
        keys = database.keys()
        assert [key for key, _ in database.items()] == keys and len(database) == len(keys)
        for key in keys[:200]:
            database.get(key)  # without a checksum it may be another value than in an iteration
            next(database.items(key), None)


def _train(backend):
    """Read three batches in a net."""
    net = net_from_text(
        'layer { name: "d" type: "Data" top: "data" top: "label" '
        f'data_param {{ source: "db" batch_size: 3 backend: {backend.upper()} }} }}'
    )
    try:
        for _ in range(3):
            net.forward()
    finally:
        net.layers[0].close()


def _actions(backend, content):
    """Read the database; one in ten also in a net, and one in ten by a command, which take longer."""
    actions = [lambda: _read(backend)]
    match zlib.crc32(content) % 10:
        case 0:
            actions.append(lambda: _train(backend))
        case 1:
            actions.append(["compute_image_mean", f"--backend={backend}", "db", "mean.binaryproto"])
    return actions


# -- LMDB --------------------------------------------------------------------------------------------------------------

_PAGE = 4096
# Positions and sizes of the fields of meta pages, of the other pages, and of nodes.
_META = [(10, 2), (16, 4), (20, 4), (40, 4), (92, 2), (94, 2), *((at, 8) for at in range(96, 152, 8))]
_HEADER = [(0, 8), (10, 2), (12, 2), (14, 2), (12, 4)]
_NODE = [(0, 4), (0, 2), (4, 2), (6, 2), (8, 4), (12, 8), (10, 8)]


def _lmdb_examples():
    kinds = [_records(5), _records(60), _records(3, 40), _records(2) + [(b"x" * 400, _records(1)[0][1])]]
    return [_files("lmdb", records)["data.mdb"] for records in kinds]


def _change_lmdb(rng, content):
    """Change fields of meta pages, page headers and nodes."""
    if rng.random() < 0.15:
        return mutate.flip(rng, content)
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        page = int(rng.integers(len(data) // _PAGE)) * _PAGE
        nodes = struct.unpack_from("<H", data, page + 12)[0] - 16 >> 1
        if page < 2 * _PAGE:
            at, size = mutate.pick(rng, _META)
        elif rng.random() < 0.3 or not 0 < nodes < 2000:
            at, size = mutate.pick(rng, _HEADER)
        elif rng.random() < 0.3:
            at, size = 16 + 2 * int(rng.integers(nodes)), 2
        else:
            at, size = mutate.pick(rng, _NODE)
            at += struct.unpack_from("<H", data, page + 16 + 2 * int(rng.integers(nodes)))[0]
        if page + at + size <= len(data):
            mutate.put_number(rng, data, page + at, size)
    return bytes(data)


lmdb = Kind(
    "lmdb", _lmdb_examples, lambda content: Case({"db/data.mdb": content}, _actions("lmdb", content)), _change_lmdb
)


# -- LevelDB -----------------------------------------------------------------------------------------------------------


def _packed(files):
    """One content for several files: name, size and content of each."""
    return b"".join(struct.pack("<20sI", name.encode(), len(data)) + data for name, data in sorted(files.items()))


def _unpacked(content):
    files, position = {}, 0
    while position < len(content):
        name, size = struct.unpack_from("<20sI", content, position)
        files[name.rstrip(b"\0").decode()] = content[position + 24 : position + 24 + size]
        position += 24 + size
    return files


def _compressed(data):
    """Snappy with literals, and copies of the byte before."""
    output, position = bytearray(varint(len(data))), 0
    while position < len(data):
        run = 1
        while run < 64 and data[position : position + 1] * (run + 1) == data[position : position + run + 1]:
            run += 1
        output += b"\0" + data[position : position + 1]
        if run > 1:
            output += bytes([(run - 2) << 2 | 2]) + b"\x01\0"
        position += run
    return bytes(output)


def _compressed_table(records):
    """A table of one compressed block, made by hand."""
    keys = [key + struct.pack("<Q", number << 8 | 1) for number, (key, _) in enumerate(records, 1)]
    entries = [b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, (_, v) in zip(keys, records, strict=True)]
    block = _compressed(b"".join(entries) + struct.pack("<II", 0, 1))
    handle = varint(0) + varint(len(block))
    index = b"\0" + varint(len(keys[-1])) + varint(len(handle)) + keys[-1] + handle + struct.pack("<II", 0, 1)
    footer = varint(0) + varint(0) + varint(len(block) + 5) + varint(len(index))
    magic = struct.pack("<Q", 0xDB4775248B80FB57)
    return block + b"\x01" + bytes(4) + index + bytes(5) + footer.ljust(40, b"\0") + magic


def _leveldb_examples():
    records = _records(12)
    plain, flat = _files("leveldb", records), [(b"%04d" % i, _flat(i)) for i in range(12)]
    compressed = {**_files("leveldb", flat), "000003.ldb": _compressed_table(flat)}
    compressed["MANIFEST-000002"] = _manifest(12)
    batch = struct.pack("<QI", 50, 2) + b"\0\x040003" + b"\x01\x040099" + varint(len(records[0][1])) + records[0][1]
    return [_packed(files) for files in (plain, compressed, {**plain, "000007.log": log_bytes(batch)})]


def _flat(label):
    return array_to_datum(np.full((3, 8, 8), label, np.uint8), label).SerializeToString()


def _manifest(count):
    """A manifest with the table 3, of any size, with all keys."""
    return log_bytes(b"\x02\x04\x03\x05\x04" + varint(count) + b"\x07\x00\x03\x00\x00\x09" + b"\xff" * 9)


def _change_leveldb(rng, content):
    """Change numbers in one of the files; the manifest and the log keep their valid frame."""
    files = _unpacked(content)
    for _ in range(int(rng.integers(1, 4))):
        name = mutate.pick(rng, [name for name in files for _ in range(4 if name.endswith(".ldb") else 1)])
        framed = name.startswith("MANIFEST") or name.endswith(".log")
        data = bytearray(files[name][7:] if framed else files[name])
        at = int(rng.integers(len(data) + 1))
        if name.endswith(".ldb"):  # sizes are at the beginning of a block; index and footer are at the end
            at = mutate.pick(
                rng, [at, int(rng.integers(min(len(data), 60) + 1)), max(0, len(data) - int(rng.integers(90)))]
            )
        match int(rng.integers(4)):
            case 0:
                data[at : at + 1] = varint(mutate.pick(rng, mutate.INTEGERS) & (1 << 64) - 1)
            case 1:
                data[at : at + 2] = varint(int(rng.integers(len(content))))
            case 2:
                mutate.put_number(rng, data, at, int(rng.integers(1, 5)))
            case 3:
                data = bytearray(mutate.flip(rng, bytes(data)))
        files[name] = log_bytes(bytes(data)) if framed else bytes(data)
    return _packed(files)


def _leveldb_case(content):
    return Case({f"db/{name}": data for name, data in _unpacked(content).items()}, _actions("leveldb", content))


leveldb = Kind("leveldb", _leveldb_examples, _leveldb_case, _change_leveldb)


# -- records -----------------------------------------------------------------------------------------------------------


def _datum_examples():
    image = _images(1, 6)[0]
    return [
        array_to_datum(image, -3).SerializeToString(),
        array_to_datum(image[:, :2], 300).SerializeToString(),
        array_to_datum(image.astype(np.float32), 3).SerializeToString(),
        caffe_pb2.Datum(data=encode_image(image, "png"), encoded=True, label=1).SerializeToString(),
        caffe_pb2.Datum(data=encode_image(image, "jpg"), encoded=True).SerializeToString(),
    ]


def _change_datum(rng, content):
    if rng.random() < 0.5:
        return mutate.flip(rng, content)
    datum = caffe_pb2.Datum.FromString(content)
    mutate.change_message(rng, datum)
    return datum.SerializeToString()


def _decoded(decoder, value):
    try:
        image, label = decoder.decode(b"key", value)
    except DataError as error:
        return str(error)
    return image.dtype, image.shape, image.tobytes(), label


def _decode(value):
    """Decode a record, with a decoder that has seen a similar one and with one that has not."""
    decoder = DatumDecoder("db")
    decoder.decode(b"key", _datum_examples()[0])
    assert _decoded(decoder, value) == _decoded(DatumDecoder("db"), value)


def _store(value):
    with open_db("db", "lmdb", "w") as database:
        for number in range(3):
            database.put(b"%d" % number, value)


def _datum_case(content):
    more = _actions("lmdb", content)
    return Case({}, [lambda: _decode(content), *([lambda: _store(content), *more[1:]] if more[1:] else [])])


datum = Kind("datum", _datum_examples, _datum_case, _change_datum)


# -- mean images -------------------------------------------------------------------------------------------------------


def _mean_examples():
    values = np.random.default_rng(0).random(108).tolist()
    old = caffe_pb2.BlobProto(num=1, channels=3, height=6, width=6, data=values)
    new = caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=[3, 6, 6]), double_data=values)
    return [old.SerializeToString(), new.SerializeToString()]


def _change_mean(rng, content):
    if rng.random() < 0.5:
        return mutate.flip(rng, content)
    blob = caffe_pb2.BlobProto.FromString(content)
    mutate.change_message(rng, blob)
    return blob.SerializeToString()


def _mean_case(content):
    from minicaffe.data.mean import read_mean

    return Case({"mean.binaryproto": content}, [lambda: read_mean("mean.binaryproto")])


mean = Kind("mean", _mean_examples, _mean_case, _change_mean)
