"""A model of training steps on an H100, for machines without one: launches, instructions and bytes, and what they cost.

    python benchmarks/gpu_model.py                              five nets: launches, modelled time, the worst launches
    python benchmarks/gpu_model.py --only resnet50 --worst 30
    python benchmarks/gpu_model.py --launches                   the number of launches alone: nothing is compiled
    python benchmarks/gpu_model.py --root OTHER_CHECKOUT --json before.json
    python benchmarks/gpu_model.py --compare before.json        both side by side

The launches of a step are recorded with a driver that does nothing and reports 132 multiprocessors (dry_driver.py). The
kernels are compiled for sm_90 by NVIDIA's compiler; their instructions are counted in the machine code (tools/sass.py),
and gpu_cost.py has the assumptions about what they cost. Nothing is timed: the figures serve to compare two versions of
the kernels and to find what costs most.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / "tools")]

from gpu_cost import ARCH, LEAST, PROCESSORS, cost  # noqa: E402

MATHS = ("float32", "tf32", "bf16")
#: (net, batch): the five that are modelled
NETS = {
    "cifar10_quick": 100,
    "cifar10_full": 100,
    "cifar10_full_sigmoid_bn": 100,
    "cifar10_resnet20": 128,
    "resnet50": 32,
}


# ---- recording -------------------------------------------------------------------------------------------------------


class Recorder:
    """Records steps of nets; one for a process, as it replaces PyCUDA."""

    def __init__(self, math: str = "float32", processors: int = PROCESSORS) -> None:
        import dry_driver

        self.state = dry_driver.install(processors)
        import minicaffe
        from minicaffe.cuda import context

        minicaffe.set_device(0)
        minicaffe.set_mode_gpu()
        context.set_math(math)

    def training_step(self, name: str, batch: int) -> tuple[list, int]:
        """Return the launches of the third step of a net, and the number of its parameters."""
        import nets
        from dry_driver import recorded

        from minicaffe.models import zoo
        from minicaffe.proto import caffe_pb2
        from minicaffe.solvers.sgd import SGDSolver

        if name == "resnet50":
            net = nets.score_named(zoo.resnet50(batch, 224, training=True))
        else:
            net = nets.TRAINING[name][0](batch)
        param = caffe_pb2.SolverParameter(
            base_lr=0.01, lr_policy="fixed", momentum=0.9, weight_decay=5e-4, snapshot_after_train=False
        )
        param.net_param.CopyFrom(net)
        solver = SGDSolver(param)
        for _ in range(2):
            solver.step(1)
        launches = recorded(self.state, lambda: solver.step(1))
        return launches, sum(blob.count for blob in solver.net.learnable_params)

    def kernel(self, launch: Any, arch: str) -> Any:
        """Return the machine code of a launch's kernel (sass.Kernel)."""
        return self._code(launch.stem, launch.double, launch.options, arch)[launch.name]

    @functools.cache  # noqa: B019  (one Recorder for a process)
    def _code(self, stem: str, double: bool, options: tuple[str, ...], arch: str) -> dict:
        import numpy as np
        import sass

        return sass.kernels_of(self.state.compile(stem, np.dtype(np.float64 if double else np.float32), arch, options))


# ---- tables ----------------------------------------------------------------------------------------------------------


def modelled(recorder: Recorder, name: str, batch: int, arch: str, stages: bool) -> dict:
    """Return the figures of a net's training step."""
    launches, parameters = recorder.training_step(name, batch)
    costs = [cost(launch, recorder.kernel(launch, arch), parameters, stages) for launch in launches]
    return {
        "net": name, "batch": batch, "launches": len(costs), "ms": 1e3 * sum(c.seconds for c in costs),
        "few_blocks": sum(c.blocks < PROCESSORS for c in costs), "at_floor": sum(c.seconds <= LEAST for c in costs),
        "gflop": sum(c.flop for c in costs) / 1e9, "mb": sum(c.bytes for c in costs) / 1e6,
        "each": [dict(asdict(c), us=1e6 * c.seconds) for c in costs],
    }  # fmt: skip


def show(result: dict, worst: int, by_kernel: bool) -> None:
    """Print a net's row and its worst launches."""
    r = result
    print(
        f"{r['net']}, batch {r['batch']}: {r['launches']} launches ({r['few_blocks']} of few blocks, "
        f"{r['at_floor']} at the least time), {r['gflop']:.1f} GFLOP, {r['mb']:.0f} MB, modelled {r['ms']:.3f} ms"
    )
    for each in sorted(result["each"], key=lambda c: -c["us"])[:worst]:
        bound = max(("issue", "tensor", "memory"), key=lambda name: each[name])
        rate = f"{each['flop'] / each['us'] / 1e6:6.1f} TFLOP/s" if each["flop"] else ""
        blocks = f"{each['blocks']:7d} blocks"
        print(f"  {each['us']:9.1f} us  {each['kernel']:38s}{blocks}  {bound:7s} {each['what']:36s}{rate}")
    if by_kernel:
        total: dict[str, list[float]] = {}
        for each in result["each"]:
            entry = total.setdefault(each["kernel"], [0, 0.0])
            entry[0] += 1
            entry[1] += each["us"]
        for name, (count, us) in sorted(total.items(), key=lambda item: -item[1][1]):
            print(f"  {us:9.1f} us  {count:4.0f} x {name}")


def table(results: list[dict], before: list[dict]) -> str:
    """Return a markdown table of the nets, with the figures of another run beside them."""
    old = {r["net"]: r for r in before}
    lines = ["| net, batch | launches | modelled ms | MB | GFLOP |", "| --- | --- | --- | --- | --- |"]
    for r in results:
        b = old.get(r["net"])

        def both(key: str, form: str, b: dict | None = b, r: dict = r) -> str:
            return (f"{b[key]:{form}} → " if b else "") + f"{r[key]:{form}}"

        cells = both("launches", "d"), both("ms", ".2f"), both("mb", ".0f"), both("gflop", ".1f")
        lines.append(f"| {r['net']}, {r['batch']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def geometry(recorder: Recorder) -> dict[str, list[int]]:
    """Return {"stem.kernel options": [threads, dynamic shared memory]} of all launches: the largest."""
    from minicaffe.cuda import context

    found: dict[str, list[int]] = {}
    for math in MATHS:
        context.set_math(math)
        for name, batch in NETS.items():
            for launch in recorder.training_step(name, batch)[0]:
                key = " ".join((launch.kernel, *launch.options))
                found[key] = max(found.get(key, [0, 0]), [launch.threads, launch.shared])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout whose kernels are modelled (this one)")
    parser.add_argument("--only", nargs="*", default=list(NETS), choices=NETS, metavar="NET", help=", ".join(NETS))
    parser.add_argument("--math", default="float32", help="as for minicaffe.cuda.set_math")
    parser.add_argument("--worst", type=int, default=10, help="launches to list for each net (10)")
    parser.add_argument("--by-kernel", action="store_true", help="list the time of each kernel")
    parser.add_argument("--stages", action="store_true", help="credit the latency hiding of cp.async")
    parser.add_argument("--arch", default=ARCH, help="compile for this architecture (sm_90)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures here")
    parser.add_argument("--compare", type=Path, metavar="JSON", help="put the figures of this file beside")
    parser.add_argument("--geometry", action="store_true", help="print {kernel: [threads, shared memory]} as JSON")
    parser.add_argument("--launches", action="store_true", help="print {net: launches} as JSON, and nothing else")
    args = parser.parse_args()
    sys.path[2:2] = [str(args.root / "benchmarks"), str(args.root)]
    os.environ["MINICAFFE_NVCC"] = "nvrtc"  # not that of an emulated driver
    recorder = Recorder(args.math)
    if args.geometry:
        print(json.dumps(geometry(recorder)))
        return 0
    if args.launches:
        print(json.dumps({name: len(recorder.training_step(name, NETS[name])[0]) for name in args.only}))
        return 0
    results = [modelled(recorder, name, NETS[name], args.arch, args.stages) for name in args.only]
    for result in results:
        show(result, args.worst, args.by_kernel)
        print()
    print(table(results, json.loads(args.compare.read_text()) if args.compare else []))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
