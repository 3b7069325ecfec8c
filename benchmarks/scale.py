"""Prints the tables of docs/scale.md: what data-parallel training costs on many devices, by `cost_model`:

    python benchmarks/scale.py                         all tables, as Markdown
    python benchmarks/scale.py published               the model beside published results
    python benchmarks/scale.py --cpu resnet50=0.9:8    with the seconds and the batch of a step measured on a CPU node
    python benchmarks/scale.py --update docs/scale.md  write the tables into the page
    python benchmarks/scale.py steps                   measure such steps on this machine (some minutes)
    python benchmarks/scale.py readers LMDB            microseconds of a record that a reader takes, or leaves out

Gradients are those of our own nets (models, models/zoo).  No GPU has run minicaffe: the steps of GPUs are published
figures of other frameworks, and what they would be for minicaffe is not known.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

_FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [_FOLDER, os.path.dirname(_FOLDER)]

from cost_model import Cluster, Training, Work, delivery, tree  # noqa: E402
from machines import (  # noqa: E402
    CPU_CLUSTERS,
    CPU_STEPS,
    GPU_CLUSTERS,
    GROUPS,
    JITTER,
    NETS,
    NVLINK_P100,
    PCIE,
    cpu_work,
    gpu_work,
    gradient_bytes,
    network,
)

from minicaffe import onednn  # noqa: E402

COUNTS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
IMAGES = {"cifar10_full": 50_000, "resnet50": 1_281_167, "vgg16": 1_281_167}  #: in an epoch
#: global batches: 8,192 is the largest with which Goyal et al. (2017) lose no accuracy (ResNet-50); the others: assumed
BATCHES = {"cifar10_full": 1024, "resnet50": 8192, "vgg16": 8192}
BYTES = {"cifar10_full": 3 * 32 * 32, "resnet50": 3 * 256 * 256, "vgg16": 3 * 256 * 256}  #: of a raw record


# -- tables ----------------------------------------------------------------------------------------------------------


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def sizes() -> str:
    """The nets: gradients, an iteration, and the rate of one device."""
    rows = []
    for name in IMAGES:
        gpu, cpu = gpu_work(name), cpu_work(name)
        cells = [name, f"{gpu.size / 1e6:.2f}"]
        for work in (gpu, cpu):
            cells += [str(work.batch), f"{1e3 * work.compute():.1f}", f"{work.batch / work.compute():.0f}"]
        rows.append(cells)
    head = ["net", "gradients, MB", "A100: batch", "ms", "images/s", "CPU node: batch", "ms", "images/s"]
    return markdown(head, rows)


def efficiency(clusters: dict[str, Cluster], work: Callable[[str], Work]) -> str:
    """Weak scaling, in percent: one exchange after the backward pass / `GROUPS` beside it."""
    rows = []
    for name in IMAGES:
        for cluster_name, cluster in clusters.items():
            one, many = (Training(work(name), cluster, groups, JITTER) for groups in (1, GROUPS))
            cells = [f"{100 * one.weak(n):.0f} / {100 * many.weak(n):.0f}" for n in COUNTS]
            rows.append([name, cluster_name, *cells])
    return markdown(["net", "cluster", *map(str, COUNTS)], rows)


def limits(clusters: dict[str, Cluster], work: Callable[[str], Work]) -> str:
    """Where it stops to pay, with one exchange after the backward pass: weak and strong scaling, size of the batch."""
    rows = []
    for name, (cluster_name, cluster) in itertools.product(IMAGES, clusters.items()):
        training, batch = Training(work(name), cluster, 1, JITTER), BATCHES[name]
        most, last = training.reach(), training.fastest(batch)
        epoch = IMAGES[name] / batch * training.iteration(last, batch / last)
        cells = [f"{most:,}" if most < 1 << 16 else "> 65,000", f"{batch:,}", f"{batch // training.work.batch:,}"]
        cells += [f"{training.reach(batch=batch):,}", f"{last:,}", f"{epoch:.3g}"]
        rows.append([name, cluster_name, *cells])
    head = ["net", "cluster", "50 % efficient, weak", "global batch", "full batches", "50 % efficient, strong"]
    return markdown([*head, "fastest with", "seconds an epoch"], rows)


def inputs() -> str:
    """What the input pipeline and storage of a node deliver, where compute is the limit."""
    rows = []
    for name in IMAGES:
        for kind, work, devices in (("8 A100", gpu_work(name), 8), ("CPU node", cpu_work(name), 1)):
            rate = devices * work.batch / work.compute()
            own = delivery(rate, BYTES[name])
            walked = [delivery(rate / devices, BYTES[name], n) * devices for n in (8, 64, 1000)]
            rows.append([name, kind, f"{rate:,.0f}", *(f"{each / 1e6:,.3g}" for each in (own, *walked))])
    head = ["net", "node", "images/s", "MB/s, own records", "all records walked, 8 ranks", "64 ranks", "1,000 ranks"]
    return markdown(head, rows)


# -- published results -------------------------------------------------------------------------------------------------


class Published(NamedTuple):
    """A published efficiency: of n devices relative to `base` devices.

    batch: of a device; total: the global batch where that is fixed (strong scaling).  note: what is assumed.
    """

    source: str
    what: str
    training: Training
    n: int
    base: int
    value: float
    total: int | None = None
    note: str = ""

    @property
    def model(self) -> float:
        """What the model gives."""
        if self.total:
            return self.training.strong(self.n, self.total) / self.training.strong(self.base, self.total)
        return self.training.weak(self.n) / self.training.weak(self.base)


def published() -> list[Published]:
    """The results, with the steps of one device that their source, or another one for the same device, gives.

    P100: TensorFlow, "Benchmarks", May 2017, synthetic data, whose batches of 32 and 64 give overhead and seconds of an
    image; ResNet-50: 29 hours for 90 epochs on 8 (NVIDIA, 2017, of Goyal et al.); GoogLeNet: Dell EMC.  Titan X:
    mxnet-finetuner, benchmark.md.
    """
    sizes = {name: float(gradient_bytes(name)) for name in ("resnet50", "vgg16", "googlenet")}
    p100 = {
        "inception3": Work(4 * 23.8e6, 64, (64 / 142 - 32 / 128) / 32, 2 * 32 / 128 - 64 / 142),
        "vgg16": Work(sizes["vgg16"], 64, (64 / 154 - 32 / 144) / 32, 2 * 32 / 144 - 64 / 154),
        "alexnet": Work(4 * 61.0e6, 512, 1 / 2987),
        "goyal": Work(sizes["resnet50"], 32, 29 * 3600 * 8 / (90 * 1_281_167)),
        "googlenet": Work(sizes["googlenet"], 128, 1 / 468),
    }
    roce = Cluster(4, PCIE, network(25))
    horovod = "Horovod (README, 2018-2019)"
    overlapped = {name: Training(work, roce, GROUPS, JITTER) for name, work in p100.items()}
    dgx1 = replace(GPU_CLUSTERS["8 A100, 100 Gbit/s"], inside=NVLINK_P100)
    big_basin = Cluster(8, NVLINK_P100, network(50))
    titan_x = Cluster(4, PCIE, PCIE, tree, pieces=False)
    vgg = Training(Work(sizes["vgg16"], 32, 1 / 59.8), titan_x, 1, JITTER)
    inception = Training(Work(4 * 11.3e6, 64, 1 / 204), titan_x, 1, JITTER)
    k80 = Training(Work(sizes["googlenet"], 32, 1 / 109), Cluster(16, PCIE, network(56), tree, pieces=False), 1, JITTER)
    k20 = Training(Work(sizes["googlenet"], 32, 1 / 60), Cluster(1, PCIE, network(40), tree), 1, JITTER)
    a100 = Training(gpu_work("resnet50"), GPU_CLUSTERS["8 A100, 100 Gbit/s"], GROUPS, JITTER)
    v100 = replace(a100, work=Work(sizes["resnet50"], 128, 1 / 367))
    bvlc = "BVLC/caffe, docs/multigpu.md"
    deep = "NVIDIA, DeepLearningExamples (2021)"
    return [
        Published(horovod, "Inception V3, 512 P100, 25 Gbit/s", overlapped["inception3"], 512, 1, 0.90),
        Published(horovod, "VGG-16, 128 P100, 25 Gbit/s", overlapped["vgg16"], 128, 1, 0.79),
        Published(horovod, "VGG-16, 512 P100, 25 Gbit/s", overlapped["vgg16"], 512, 1, 0.68),
        Published(
            "Goyal et al. (2017)", "ResNet-50, 8 to 256 P100, 50 Gbit/s",
            Training(p100["goyal"], big_basin, GROUPS, JITTER), 256, 8, 0.90,
        ),
        Published(
            "TensorFlow, Benchmarks (2017)", "VGG-16, 8 P100 (DGX-1, NCCL), batch 64",
            Training(p100["vgg16"], dgx1, 1, JITTER), 8, 1, 1081 / (8 * 154),
        ),
        Published(
            "TensorFlow, Benchmarks (2017)", "AlexNet, 8 P100 (DGX-1, NCCL), batch 512",
            Training(p100["alexnet"], dgx1, 1, JITTER), 8, 1, 17822 / (8 * 2987),
        ),
        Published(deep, "ResNet-50, 8 A100, TF32", a100, 8, 1, 7248 / (8 * 938)),
        Published(deep, "ResNet-50, 8 V100, float32", v100, 8, 1, 2855 / (8 * 367)),
        Published(
            "NVIDIA/caffe, by Dell EMC", "GoogLeNet, 4 P100, batch 128",
            Training(p100["googlenet"], roce, GROUPS, JITTER), 4, 1, 1755 / (4 * 468),
        ),
        Published(bvlc, "mean of four nets, 2 GPUs", vgg, 2, 1, 1.8 / 2, note="VGG-16, batch 32, Titan X"),
        Published(bvlc, "mean of four nets, 2 GPUs", inception, 2, 1, 1.8 / 2, note="Inception-BN, batch 64, Titan X"),
        Published(bvlc, "mean of four nets, 4 GPUs", vgg, 4, 1, 3.5 / 4, note="VGG-16, batch 32, Titan X"),
        Published(bvlc, "mean of four nets, 4 GPUs", inception, 4, 1, 3.5 / 4, note="Inception-BN, batch 64, Titan X"),
        Published(
            "S-Caffe (Awan et al., 2017)", "GoogLeNet, 32 to 160 K80", k80, 160, 32, 2.5 / 5, 1280,
            "tree, batch 1,280, a K80's rate, network",
        ),
        Published(
            "FireCaffe (Iandola et al., 2016)", "GoogLeNet, 128 K20, tree", k20, 128, 1, 47 / 128, 1024,
            "batch 1,024, a K20's rate, network",
        ),
    ]  # fmt: skip


def comparison() -> str:
    """Published and modelled efficiency."""
    rows = []
    for row in published():
        error = 100 * (row.model - row.value)
        rows.append(
            [row.source, row.what, f"{100 * row.value:.0f}", f"{100 * row.model:.0f}", f"{error:+.0f}", row.note]
        )
    return markdown(["source", "what", "published, %", "model, %", "error, points", "assumed"], rows)


# -- readers -----------------------------------------------------------------------------------------------------------


def readers(source: str, batches: int = 20) -> str:
    """Time a reader of an LMDB as one of n ranks: microseconds of a record that it returns, with those left out."""
    from minicaffe.data.reader import DatabaseReader, Share

    rows = []
    for size in (1, 2, 8, 64):
        reader = DatabaseReader(source, "LMDB", 100, share=Share(0, size))
        times = []
        for _ in range(batches):
            start = time.perf_counter()
            reader.read()
            times.append((time.perf_counter() - start) / 100)
        rows.append([str(size), f"{1e6 * statistics.median(times):.2f}", f"{1 / statistics.median(times):,.0f}"])
    return markdown(["ranks", "microseconds a record", "records a second"], rows)


def steps(batch: int, rounds: int = 5) -> str:
    """Time a training step of each net on this machine's cores; return the flags --cpu with these times."""
    from contestants.ours import CpuMinicaffe

    from minicaffe.cores import cores

    flags = []
    for name in IMAGES:
        images = batch if name != "cifar10_full" else 100
        contestant = CpuMinicaffe("ONEDNN" if onednn.available() else "CAFFE", cores())
        contestant.build(NETS[name](images), True)
        flags.append(f"--cpu {name}={statistics.median(contestant.run(rounds)):.4g}:{images}")
    return " ".join(flags)


TABLES = {
    "sizes": sizes,
    "gpus": lambda: efficiency(GPU_CLUSTERS, gpu_work),
    "cpus": lambda: efficiency(CPU_CLUSTERS, cpu_work),
    "limits-of-gpus": lambda: limits(GPU_CLUSTERS, gpu_work),
    "limits-of-cpus": lambda: limits(CPU_CLUSTERS, cpu_work),
    "inputs": inputs,
    "published": comparison,
}


def updated(text: str) -> str:
    """Return a Markdown text in which each table under a line `<!-- table: NAME -->` is the one of that name."""

    def table(match: re.Match) -> str:
        return f"{match[1]}\n{TABLES[match[2]]()}\n"

    return re.sub(r"(<!-- table: ([\w-]+) -->)\n(?:\|.*\n)*", table, text)


def _step(text: str) -> tuple[str, tuple[float, int]]:
    """Parse "net=seconds:batch"."""
    name, _, value = text.partition("=")
    seconds, _, batch = value.partition(":")
    if name not in CPU_STEPS:
        raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(CPU_STEPS)}")
    return name, (float(seconds), int(batch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "tables", nargs="*", metavar="table", help=f"of {', '.join(TABLES)}; or steps, or readers LMDB; all"
    )
    parser.add_argument("--cpu", type=_step, action="append", default=[], metavar="net=seconds:batch")
    parser.add_argument("--update", metavar="PAGE", help="replace the tables of a page, such as docs/scale.md")
    args = parser.parse_args()
    CPU_STEPS.update(args.cpu)
    if args.update:
        page = Path(args.update)
        page.write_text(updated(page.read_text(encoding="utf-8")), encoding="utf-8")
        return
    if args.tables == ["steps"]:
        print(steps(batch=8))
        return
    if args.tables[:1] == ["readers"]:
        print("\n\n".join(readers(source) for source in args.tables[1:]))
        return
    if unknown := set(args.tables) - set(TABLES):
        parser.error(f"unknown tables {', '.join(sorted(unknown))}; known are {', '.join(TABLES)}, readers")
    print("\n\n".join(TABLES[name]() for name in args.tables or TABLES))


if __name__ == "__main__":
    main()
