"""HDF5 files with data, of both formats of the library, through an HDF5Data layer."""

import h5py
import numpy as np

from fuzz.kind import Case, Kind
from fuzz.mutate_hdf5 import change_hdf5
from minicaffe.core.net import Net
from minicaffe.proto import TEST, caffe_pb2, parse_text

NET = """
layer { name: "rows" type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "list.txt" batch_size: 4 } }
"""


def _examples():
    fills = (_plain, _filtered, _links)
    return [_content(fill, libver) for fill in fills for libver in ("earliest", "latest")]


def _content(fill, libver):
    with h5py.File("memory", "w", driver="core", backing_store=False, libver=libver) as file:
        fill(file)
        file.flush()
        return file.id.get_file_image()


def _plain(file):
    file["data"] = np.arange(30, dtype="f4").reshape(5, 2, 3)
    file["label"] = np.arange(5.0)
    file["other"] = ["a", "text"]
    file["data"].attrs["unit"] = "mm"


def _filtered(file):
    values = np.arange(30, dtype=">i4").reshape(5, 2, 3)
    file.create_dataset("data", data=values, chunks=(2, 2, 2), compression="gzip", shuffle=True, fletcher32=True)
    file.create_dataset("label", data=values[:, 0, 0], chunks=(2,), maxshape=(None,), compression="lzf", fillvalue=3)
    file.create_dataset("scaled", data=values, chunks=(2, 2, 2), scaleoffset=0)


def _links(file):
    file.create_dataset("group/data", data=np.arange(30, dtype="f8").reshape(5, 2, 3), chunks=(1, 2, 3))
    file["data"] = h5py.SoftLink("/group/data")
    file.create_dataset("label", shape=(5,), dtype="f2", fillvalue=1)
    file["elsewhere"] = h5py.ExternalLink("list.txt", "/label")
    file["group/again"] = file["/"]


def _read():
    net = Net(parse_text(NET, caffe_pb2.NetParameter()), TEST)
    net.forward()
    net.forward()


def _case(content):
    return Case({"a.h5": content, "list.txt": b"a.h5\n"}, [_read])


hdf5_data = Kind("hdf5_data", _examples, _case, change_hdf5)
