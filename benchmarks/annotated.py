"""Times AnnotatedData with the transformation of SSD300's training: CPU time per image, and where it goes.

    python benchmarks/annotated.py                 JPEGs of 500 x 375 to 300 x 300, on one thread
    python benchmarks/annotated.py --profile       the functions that take most of it
    python benchmarks/annotated.py --modes         all five interpolations, as SSD's scripts have them

Pictures are drawn by the script.  Decoding is part of the time.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import os
import pstats
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from minicaffe import TRAIN, Net  # noqa: E402
from minicaffe.data import open_db  # noqa: E402
from minicaffe.proto import caffe_pb2, parse_text  # noqa: E402

PICTURES, BATCH = 64, 32

_SAMPLER = """batch_sampler { max_sample: 1 max_trials: 50
    sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 } sample_constraint { %s } }"""
_LIMITS = [*(f"min_jaccard_overlap: {value}" for value in (0.1, 0.3, 0.5, 0.7, 0.9)), "max_jaccard_overlap: 1"]
NET = """layer { name: "data" type: "AnnotatedData" top: "data" top: "label"
    data_param { source: "%s" backend: LMDB batch_size: %d threads: 1 }
    transform_param { mirror: true mean_value: 104 mean_value: 117 mean_value: 123
        resize_param { height: 300 width: 300 %s } emit_constraint { emit_type: CENTER }
        distort_param { brightness_prob: 0.5 brightness_delta: 32 hue_prob: 0.5 hue_delta: 18
            contrast_prob: 0.5 contrast_lower: 0.5 contrast_upper: 1.5
            saturation_prob: 0.5 saturation_lower: 0.5 saturation_upper: 1.5 }
        expand_param { prob: 0.5 max_expand_ratio: 4 } }
    annotated_data_param { batch_sampler { max_sample: 1 max_trials: 1 } %s } }"""
MODES = ("LINEAR", "AREA", "NEAREST", "CUBIC", "LANCZOS4")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time AnnotatedData with SSD300's transformation.")
    parser.add_argument("--batches", type=int, default=10, help="batches of 32 images (default 10)")
    parser.add_argument("--profile", action="store_true", help="print the functions that take most of the time")
    parser.add_argument("--modes", action="store_true", help="choose one of five interpolations for each image")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(f"{folder}/pictures")
        modes = " ".join(f"interp_mode: {mode}" for mode in (MODES if args.modes else MODES[:1]))
        samplers = " ".join(_SAMPLER % limits for limits in _LIMITS)
        text = NET % (f"{folder}/pictures", BATCH, modes, samplers)
        layer = Net(parse_text(text, caffe_pb2.NetParameter()), TRAIN).layers[0]
        seconds, profile = measure(layer, args.batches)
        layer.close()
    count = args.batches * BATCH
    print(f"{1e3 * seconds / count:.2f} ms of CPU time for an image, {count / seconds:.0f} images/s on one core")
    if args.profile:
        profile.print_stats(20)


def write_pictures(path: str) -> None:
    """Write a database of smooth noise with one to five boxes each."""
    rng = np.random.default_rng(0)
    with open_db(path, "lmdb", "w") as database:
        for i in range(PICTURES):
            small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            file = io.BytesIO()
            small.resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG")
            record = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
            record.datum.MergeFrom(caffe_pb2.Datum(data=file.getvalue(), encoded=True))
            for low, high in np.sort(rng.random((rng.integers(1, 6), 2, 2)), axis=1):
                box = caffe_pb2.NormalizedBBox(xmin=low[0], ymin=low[1], xmax=high[0], ymax=high[1])
                record.annotation_group.add(group_label=1).annotation.add(bbox=box)
            database.put(f"{i:04d}", record.SerializeToString())


def measure(layer, batches: int) -> tuple[float, pstats.Stats]:
    """Read and transform in this thread; return the CPU time, and a profile of a second run."""

    def work(count: int) -> None:
        for _ in range(count):
            batch = layer.reader.read()
            layer.transformer.apply(batch.images, batch.labels, np.dtype(np.float32))

    work(1)
    start = time.process_time()
    work(batches)
    seconds = time.process_time() - start
    profile = cProfile.Profile(time.process_time)
    profile.runcall(work, batches)
    return seconds, pstats.Stats(profile).sort_stats("tottime")


if __name__ == "__main__":
    main()
