"""Store the values of a net's blobs in databases: the implementation of extract_features."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping

from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db
from minicaffe.errors import NetError, nearest

log = logging.getLogger("minicaffe")


def extract(
    net,
    targets: Mapping[str, str],
    batches: int,
    backend: str,
    progress: Callable[[int, int], object] = lambda done, count: None,
) -> int:
    """Run `batches` forward passes and write each item of each blob; return the number of items per blob.

    net: a Net with data layers.  targets: database to write by blob name.  backend: "lmdb" or "leveldb".
    progress: called with the number of batches that are done, and with that of all.
    An item of n values becomes a Datum of floats: (C, H, W) for a blob (N, C, H, W), otherwise (n, 1, 1).  Keys are
    numbers from 0 on, with ten digits.
    NetError for an unknown blob, DataError when a database cannot be written.
    """
    for name in targets:
        if name not in net.blobs:
            raise NetError(f"the net has no blob '{name}'{nearest(name, net.blobs)}; it has {', '.join(net.blobs)}")
    log.info("Extracting features")
    with contextlib.ExitStack() as stack:
        databases = {name: stack.enter_context(open_db(path, backend, "w")) for name, path in targets.items()}
        for batch in range(batches):
            progress(batch, batches)
            net.forward()
            for name, database in databases.items():
                blob = net.blobs[name]
                shape = blob.shape[1:] if blob.num_axes == 4 else (blob.count // blob.shape[0], 1, 1)
                for item in blob.read_data().reshape(blob.shape[0], *shape):
                    database.put(f"{database.count:010d}", array_to_datum(item).SerializeToString())
                    if database.count % 1000 == 0:
                        log.info("Extracted features of %d query images for feature blob %s", database.count, name)
        counts = {name: database.count for name, database in databases.items()}
    for name, count in counts.items():
        log.info("Extracted features of %d query images for feature blob %s", count, name)
    log.info("Successfully extracted the features!")
    return max(counts.values())
