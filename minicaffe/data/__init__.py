"""Where the numbers come from: databases, lists and HDF5 files are read, transformed in batches and prefetched.

db.py           LMDB and LevelDB behind one small interface
datum.py        one record <-> one array
image.py        one picture <-> one array, for all readers
transformer.py  crop, mirror, subtract the mean, scale: whole batches
prefetch.py     a thread that reads ahead
datasets/       CIFAR-10, MNIST and a stand-in that minicaffe draws itself
"""

from minicaffe.data.datum import array_to_datum, datum_to_array
from minicaffe.data.db import Cursor, Database, DatabaseWriter, open_db

__all__ = ["Cursor", "Database", "DatabaseWriter", "array_to_datum", "datum_to_array", "open_db"]
