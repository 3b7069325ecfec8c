"""What the blobs of a net hold, stored in databases: what extract_features does."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping

from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db
from minicaffe.errors import NetError, nearest

log = logging.getLogger("minicaffe")


def extract(net, targets: Mapping[str, str], batches: int, backend: str) -> int:
    """Run `batches` forward passes and write each item of each blob; return the number of items per blob.

    net: a Net whose data layers feed it.  targets: blob -> database to write.  An item of n numbers becomes a Datum
    of floats: (C, H, W) for a blob (N, C, H, W), else (n, 1, 1); keys count from 0, ten digits.
    """
    for name in targets:
        if name not in net.blobs:
            raise NetError(f"the net has no blob '{name}'{nearest(name, net.blobs)}; it has {', '.join(net.blobs)}")
    log.info("Extracting features")
    with contextlib.ExitStack() as stack:
        databases = {name: stack.enter_context(open_db(path, backend, "w")) for name, path in targets.items()}
        for _ in range(batches):
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
