"""Input data: read databases, lists and HDF5 files, transform batches, prefetch.

db.py           LMDB and LevelDB with one interface
datum.py        conversion of a record to an array and back
image.py        conversion of an image file to an array and back, for all readers
reader.py       batches of records, and their positions for resuming
transformer.py  crop, mirror, subtract the mean, scale: whole batches
prefetch.py     a thread that produces results ahead of their use
workers.py      threads that share the images of a batch
feed.py         the batches of a data layer, made ahead of the net by all these
whitening.py    mean, standard deviation, PCA and ZCA of images; whitening_database.py computes them
datasets/       CIFAR-10, MNIST and a synthetic data set
"""

from minicaffe.data.datum import array_to_datum, datum_to_array
from minicaffe.data.db import Cursor, Database, DatabaseWriter, open_db

__all__ = ["Cursor", "Database", "DatabaseWriter", "array_to_datum", "datum_to_array", "open_db"]
