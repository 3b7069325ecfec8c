"""Times the data layers beside PyTorch's DataLoader, and a training that reads JPEGs beside one from constant input:

    python benchmarks/data.py                     all sources, then the training
    python benchmarks/data.py raw list --rounds 10
    python benchmarks/data.py --train             the training alone
    python benchmarks/data.py --resize            resizing alone, beside OpenCV

Pictures are drawn by the script.  Contestants take turns; in each turn a pipeline starts, is run until what it reads
ahead is used up, and then timed.  The table has the best turn of each: images per second, and, where one process does
all the work on one image after the other, its CPU time per image.  The DataLoader decodes with Pillow, and crops, flips
and normalizes in numpy.  Resizing is not the same work: Pillow's resize averages, ours is OpenCV's.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import io
import os
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

_AHEAD = 8  # batches, more than any contestant reads ahead
MEAN = (104, 117, 123)
_VALUES = " ".join(f"mean_value: {value}" for value in MEAN)
_LARGE = f"crop_size: 224 mirror: true {_VALUES}"


class Source(NamedTuple):
    """A source of images, for both sides."""

    layer: str  # the layer's prototxt
    param: str  # the field with `threads`
    batch: int
    crop: int
    resize: int = 0


SOURCES = {
    "raw": Source(
        'type: "Data" transform_param { crop_size: 28 mirror: true mean_file: "mean.binaryproto" } '
        'data_param { source: "raw" backend: LMDB batch_size: 100 }', "data_param", 100, 28,
    ),
    "list": Source(
        f'type: "ImageData" transform_param {{ {_LARGE} }} '
        'image_data_param { source: "large.txt" batch_size: 32 shuffle: true }', "image_data_param", 32, 224,
    ),
    "encoded": Source(
        f'type: "Data" transform_param {{ {_LARGE} }} data_param {{ source: "encoded" backend: LMDB batch_size: 32 }}',
        "data_param", 32, 224,
    ),
    "resized": Source(
        f'type: "ImageData" transform_param {{ mirror: true {_VALUES} }} image_data_param {{ source: "large.txt" '
        "batch_size: 32 shuffle: true new_height: 224 new_width: 224 }", "image_data_param", 32, 0, 224,
    ),
}  # fmt: skip


# -- pictures ----------------------------------------------------------------------------------------------------------


def draw(rng: np.random.Generator, size: int) -> Image.Image:
    """Draw a picture: smooth colors with some noise, whose JPEG is about as large as that of a photograph."""
    cells = rng.integers(0, 256, (size // 16 + 1, size // 16 + 1, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC), np.int16)
    return Image.fromarray((smooth + rng.integers(-12, 12, smooth.shape)).clip(0, 255).astype(np.uint8))


def jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_sources() -> None:
    """Write all sources into the current folder."""
    from minicaffe.data import array_to_datum, open_db
    from minicaffe.data.mean import write_mean
    from minicaffe.proto import caffe_pb2

    rng = np.random.default_rng(0)
    with open_db("raw", "lmdb", "w") as database:
        for i in range(5000):
            image = rng.integers(0, 256, (3, 32, 32), np.uint8)
            database.put(f"{i:05d}", array_to_datum(image, i % 10).SerializeToString())
    write_mean("mean.binaryproto", rng.random((3, 32, 32)) * 255)
    with open_db("encoded", "lmdb", "w") as database:
        for name, size, count in (("large", 256, 256), ("small", 40, 2000)):
            with open(f"{name}.txt", "w") as lines:
                for i in range(count):
                    content, path = jpeg(draw(rng, size)), f"{name}{i}.jpg"
                    with open(path, "wb") as file:
                        file.write(content)
                    lines.write(f"{path} {i % 10}\n")
                    if name == "large":
                        datum = caffe_pb2.Datum(data=content, encoded=True, label=i % 10)
                        database.put(f"{i:05d}", datum.SerializeToString())


# -- contestants -------------------------------------------------------------------------------------------------------


def our_batches(source: Source, threads: int) -> Iterator[None]:
    """Run the layer; yield after each batch."""
    import minicaffe
    from minicaffe.proto import caffe_pb2, parse_text

    text = f'layer {{ name: "data" top: "data" top: "label" {source.layer} }}'
    param = parse_text(text, caffe_pb2.NetParameter())
    field = getattr(param.layer[0], source.param)
    if "threads" in field.DESCRIPTOR.fields_by_name:  # older commits have one thread
        field.threads = threads
    net = minicaffe.Net(param, phase=minicaffe.TRAIN)
    while True:
        net.run_forward()
        yield


class Pictures:
    """A torch Dataset of one of the sources: endless, with everything in memory that the layer reads from disk."""

    def __init__(self, name: str, source: Source) -> None:
        from minicaffe.data import datum_to_array, open_db
        from minicaffe.data.mean import read_mean
        from minicaffe.proto import caffe_pb2

        self.source = source
        self.mean = np.array(MEAN, np.float32)[:, None, None]
        datums = (
            caffe_pb2.Datum.FromString(bytes(value))
            for _, value in open_db("raw" if name == "raw" else "encoded", "lmdb").items()
        )
        self.records = [(datum_to_array(d) if name == "raw" else d.data, d.label) for d in datums]
        if name == "raw":
            self.mean = read_mean("mean.binaryproto")
        self.rng = np.random.default_rng()

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index: int):
        content, label = self.records[index % len(self.records)]
        if isinstance(content, bytes):
            picture = Image.open(io.BytesIO(content)).convert("RGB")
            if self.source.resize:
                picture = picture.resize((self.source.resize, self.source.resize), Image.Resampling.BILINEAR)
            content = np.asarray(picture)[:, :, ::-1].transpose(2, 0, 1)
        return self.augmented(content), label

    def augmented(self, image: np.ndarray):
        import torch

        crop = self.source.crop or image.shape[1]
        top, left = self.rng.integers(0, image.shape[1] - crop + 1, 2)
        region = np.s_[:, top : top + crop, left : left + crop]
        values = np.subtract(image[region], self.mean[region] if self.mean.shape[1] > 1 else self.mean)
        return torch.from_numpy(np.ascontiguousarray(values[:, :, ::-1]) if self.rng.random() < 0.5 else values)


def torch_batches(name: str, source: Source, workers: int) -> Iterator[None]:
    """Run a DataLoader; yield after each batch."""
    import torch

    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(
        Pictures(name, source), batch_size=source.batch, num_workers=workers, multiprocessing_context=_fork(workers)
    )
    for _ in loader:
        yield


def _fork(workers: int) -> str | None:
    return "fork" if workers else None


def timed(start: Callable[[], Iterator[None]], batches: int) -> tuple[float, float]:
    """Start a pipeline, use up what it reads ahead, and return wall and CPU seconds of the batches after that."""
    pipeline = start()
    for _ in range(_AHEAD):
        next(pipeline)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(pipeline)
    result = time.perf_counter() - wall, time.process_time() - cpu
    pipeline.close()
    return result


def race(name: str, rounds: int, batches: int) -> None:
    """Time all contestants on one source, in turns; print the table."""
    source, cores = SOURCES[name], len(os.sched_getaffinity(0))
    field = {f"minicaffe, {n} threads": lambda n=n: our_batches(source, n) for n in sorted({1, 2, cores})}
    if importlib.util.find_spec("torch"):
        for n in (0, 1, 2):
            field[f"DataLoader, {n} workers"] = lambda n=n: torch_batches(name, source, n)
    best = {key: (float("inf"), float("inf")) for key in field}
    for _ in range(rounds):
        for key, start in field.items():
            best[key] = tuple(map(min, best[key], timed(start, batches)))
    print(f"\n{name}, batches of {source.batch}, {cores} cores: best of {rounds} turns of {batches} batches")
    for key, (wall, cpu) in best.items():
        alone = f"{cpu / batches / source.batch * 1e6:12.1f} us of CPU each" if " 1 t" in key or " 0 w" in key else ""
        print(f"  {key:26s}{batches * source.batch / wall:10.0f} images/s{alone}", flush=True)


# -- training ----------------------------------------------------------------------------------------------------------


def training(rounds: int, steps: int) -> None:
    """Time steps of ResNet-20 from JPEGs and from constant input, in turns."""
    import nets

    from minicaffe.proto import caffe_pb2, parse_text
    from minicaffe.solvers.sgd import SGDSolver

    layer = (
        f'name: "data" top: "data" top: "label" type: "ImageData" transform_param {{ crop_size: 32 mirror: true '
        f'{_VALUES} scale: 0.0078125 }} image_data_param {{ source: "small.txt" batch_size: 128 shuffle: true }}'
    )
    solvers = {}
    for name in ("constant", "JPEGs"):
        param = nets.TRAINING["cifar10_resnet20"][0](128)
        if name == "JPEGs":
            others = [other for other in param.layer if other.type != "Input"]
            del param.layer[:]
            param.layer.extend([parse_text(layer, caffe_pb2.LayerParameter()), *others])
        solver = caffe_pb2.SolverParameter(
            base_lr=0.01, lr_policy="fixed", momentum=0.9, max_iter=1 << 30, snapshot_after_train=False
        )
        solver.net_param.CopyFrom(param)
        solvers[name] = SGDSolver(solver)
        solvers[name].step(2)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in solvers}
    for _ in range(rounds):
        for name, solver in solvers.items():
            wall, cpu = time.perf_counter(), time.process_time()
            solver.step(steps)
            times[name].append(((time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps))
    print(f"\nResNet-20, batch 128, milliseconds a step, {rounds} turns of {steps} steps: minimum, median; CPU minimum")
    for name, pairs in times.items():
        walls, cpus = zip(*pairs, strict=True)
        print(f"  {name:10s}{min(walls) * 1e3:9.1f}{statistics.median(walls) * 1e3:9.1f}{min(cpus) * 1e3:11.1f}")


def resizing(rounds: int) -> None:
    """Time the resizing of decoded pictures in each mode, on one thread, beside OpenCV's, if it is installed."""
    from minicaffe.data.image import resize
    from minicaffe.data.resample import MODES

    opencv: Any = importlib.util.find_spec("cv2") and importlib.import_module("cv2")
    if opencv:
        opencv.setNumThreads(1)
    rng = np.random.default_rng(0)
    print(f"\nResizing 3 channels of bytes, milliseconds, the best of {10 * rounds}: minicaffe, OpenCV")
    for height, width, new in ((375, 500, 256), (256, 256, 227), (768, 1024, 300), (100, 90, 256), (32, 32, 28)):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        decoded = pixels[:, :, ::-1].transpose(2, 0, 1)  # as a decoder returns it
        for mode in MODES:
            contestants = [functools.partial(resize, decoded, new, new, mode)]
            if opencv:
                flag = getattr(opencv, f"INTER_{mode}")
                contestants.append(functools.partial(opencv.resize, pixels, (new, new), interpolation=flag))
            times = [min(timeit.repeat(contestant, number=1, repeat=10 * rounds)) for contestant in contestants]
            print(f"  {height}x{width} to {new}x{new} {mode:9s}", *(f"{seconds * 1e3:8.3f}" for seconds in times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", metavar="source", help=f"of {', '.join(SOURCES)}; all unless given")
    parser.add_argument("--rounds", type=int, default=5, help="turns each contestant takes (5)")
    parser.add_argument("--batches", type=int, default=16, help="batches timed in a turn (16)")
    parser.add_argument("--steps", type=int, default=8, help="training steps in a turn (8)")
    parser.add_argument("--train", action="store_true", help="the training alone")
    parser.add_argument("--resize", action="store_true", help="resizing alone")
    args = parser.parse_args()
    if args.resize:
        return resizing(args.rounds)
    if unknown := set(args.sources) - set(SOURCES):
        parser.error(f"unknown sources {', '.join(sorted(unknown))}; known are {', '.join(SOURCES)}")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_sources()
        for name in [] if args.train else args.sources or SOURCES:
            race(name, args.rounds, args.batches * (4 if name == "raw" else 1))
        if args.train or not args.sources:
            training(args.rounds, args.steps)
        os.chdir(os.path.dirname(folder))


if __name__ == "__main__":
    main()
