"""Measures how training in several processes scales on this machine's cores, beside PyTorch's DistributedDataParallel:

    python benchmarks/parallel.py                       LeNet, cifar10_full and ResNet-20, 2 cores: some 7 minutes
    python benchmarks/parallel.py cifar10_full --rounds 20
    python benchmarks/parallel.py --link                what a sum over the ranks costs: alpha and beta
    python benchmarks/parallel.py --torch-python PATH   PyTorch, where it is installed for another interpreter

strong  the batch of one process is divided among the workers
weak    each worker, or each thread, has the batch of one process

The teams take turns, a few steps each, so that a machine that is busy now and then is so for all of them; ranks are
pinned to cores of their own.  Before anything is timed the losses of all teams with the same batch are compared, and
afterwards the parameters of the ranks of a team, to the bit.  The table is Markdown, with medians.  "Speed-up" is
images a second relative to one process with one thread of the same framework, "efficiency" that divided by the cores.
"In the sum" is the part of an iteration in which ranks exchange gradients after the backward pass, "transfer" that of
the rank that waits least for the others; PyTorch's sums run beside the backward pass, and are not timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace

_FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [_FOLDER, os.path.dirname(_FOLDER)]

import nets  # noqa: E402
from contestants.teams import Plan, Result, Team  # noqa: E402
from google.protobuf import text_format  # noqa: E402

from minicaffe import onednn  # noqa: E402

NETS = ("lenet", "cifar10_full", "cifar10_resnet20")
_AGREE = 1e-3  # how much the losses of a first pass may differ, relative
_PAUSE = 0.02  # seconds between turns
#: numbers in the arrays of --link: one, and those in the gradients of nets
SIZES = {"": 1, "cifar10_full": 89_578, "ResNet-20": 272_282, "LeNet": 431_080, "GoogLeNet": 6_998_552}
SIZES["ResNet-50"] = 25_557_032


def plans(workers: int, torch_python: str | None) -> list[Plan]:
    """Return the teams: one process with one thread and with several, several workers; the same of PyTorch."""
    engine = "ONEDNN" if onednn.available() else "CAFFE"
    alone = Plan("1 process", "minicaffe", engine, 1, 1)
    many = replace(alone, workers=workers)
    result = [
        alone,
        replace(alone, name=f"1 process, {workers} threads", threads=workers),
        replace(many, name=f"{workers} workers, TCP"),
    ]
    if importlib.util.find_spec("mpi4py"):
        result.append(replace(many, name=f"{workers} workers, MPI", launcher="mpiexec"))
    if torch_python:
        torch = replace(alone, kind="PyTorch", variant="channels_last", python=torch_python)
        result += [
            replace(torch, name="PyTorch, 1 process"),
            replace(torch, name=f"PyTorch, 1 process, {workers} threads", threads=workers),
            replace(torch, name=f"PyTorch, {workers} workers, gloo", workers=workers),
        ]
    return result


def batch_of(scaling: str, plan: Plan, batch: int) -> int:
    """Return the batch size of each worker, where `batch` is that of one process with one thread."""
    return batch // plan.workers if scaling == "strong" else batch * plan.threads


def race(net: str, scaling: str, teams: list[Team], batch: int, args: argparse.Namespace) -> list[Result]:
    """Time the teams on one net, in turns."""
    field = prepare(net, scaling, teams, batch)
    steps = {team: max(2, round(args.seconds / min(result.seconds))) for team, result in field.items()}
    for result in field.values():
        result.seconds, result.summing = [], [[] for _ in result.summing]
    for turn in range(args.rounds):
        for team, result in field.items():
            time.sleep(_PAUSE)
            result.add(team.ask("run_steps", steps[team]))
        print(f"  {net}, {scaling}: turn {turn + 1} of {args.rounds}", file=sys.stderr, flush=True)
    for team in field:
        if len(set(team.ask("digest"))) != 1:
            print(f"  {team.name}: the ranks' parameters differ", flush=True)
        if (parts := team.ask("parts")[0]) > 1:
            print(f"  {team.name}: gradients are summed in {parts} parts during the backward pass", flush=True)
    return list(field.values())


def prepare(net: str, scaling: str, teams: list[Team], batch: int) -> dict[Team, Result]:
    """Make the net in all teams, compare their losses, and run 3 steps; name the teams that cannot take part."""
    field: dict[Team, Result] = {}
    losses: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for team in teams:
            own, workers = batch_of(scaling, team.plan, batch), team.plan.workers
            path = os.path.join(folder, f"{own}.prototxt")
            with open(path, "w") as file:
                file.write(text_format.MessageToString(nets.TRAINING[net][0](own)))
            try:
                loss = team.ask("start", path)[0]
            except RuntimeError as error:
                print(f"  {team.name}: does not take part: {str(error)[:100]}", flush=True)
                continue
            if not abs(loss - losses.setdefault(own, loss)) <= _AGREE * abs(losses[own]):
                print(f"  {team.name}: its loss is {loss:.6f}, that of the others {losses[own]:.6f}", flush=True)
            field[team] = Result(team.plan, own * workers, [], [[] for _ in range(workers)])
            field[team].add(team.ask("run_steps", 3))
    return field


def table(net: str, scaling: str, results: list[Result]) -> list[str]:
    """Return the rows of a Markdown table."""
    alone = {r.plan.kind: r for r in reversed(results) if r.plan.cores == 1}
    torch = {(r.plan.workers, r.plan.threads): r for r in results if r.plan.kind == "PyTorch"}
    rows = []
    for r in results:
        rival = torch.get((r.plan.workers, r.plan.threads))
        speed_up = r.rate / alone[r.plan.kind].rate if r.plan.kind in alone else float("nan")
        shares = [f"{100 * share:.1f} %" for share in r.shares or ()] or ["", ""]
        beside = f"{rival.median / r.median:.2f}" if rival and rival is not r else ""
        cells = [net, scaling, r.plan.name, str(r.batch), f"{1e3 * r.median:.2f}", f"{r.rate:.0f}"]
        cells += [f"{speed_up:.2f}", f"{speed_up / r.plan.cores:.2f}", *shares, beside]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


HEAD = [
    "| net | scaling | | batch of all | ms an iteration | images a second | speed-up | efficiency | in the sum "
    "| transfer | PyTorch / minicaffe |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
]


# -- what a sum costs ------------------------------------------------------------------------------------------------


def link(teams: list[Team], repeats: int) -> list[str]:
    """Return a Markdown table: milliseconds of a sum over the ranks by the array's size, alpha and beta."""
    rows = [f"| numbers | | {' | '.join(team.name for team in teams)} |", "| --- " * (len(teams) + 2) + "|"]
    for name, count in SIZES.items():
        times = [team.ask("sum_times", count, max(3, min(repeats, repeats * 500_000 // count))) for team in teams]
        medians = [1e3 * statistics.median(max(each) for each in zip(*ranks, strict=True)) for ranks in times]
        rows.append(f"| {count:,} | {name} | {' | '.join(f'{median:.3f}' for median in medians)} |")
        print(f"  {count:,} numbers: timed", file=sys.stderr, flush=True)
    costs = [team.ask("cost")[0] for team in teams]
    rows.append(f"| | alpha, microseconds a sum | {' | '.join(f'{1e6 * alpha:.3g}' for alpha, _ in costs)} |")
    rows.append(f"| | 1 / beta, GB a second | {' | '.join(f'{1e-9 / max(beta, 1e-15):.3g}' for _, beta in costs)} |")
    return rows


def assemble(names: list[Plan]) -> list[Team]:
    """Start the teams; name those that cannot take part."""
    teams = []
    for plan in names:
        try:
            teams.append(Team(plan))
            print(f"  {plan.name}: ready", file=sys.stderr, flush=True)
        except RuntimeError as error:
            print(f"  {plan.name}: does not take part: {error}", flush=True)
    return teams


def main() -> None:
    here = sys.executable if importlib.util.find_spec("torch") else None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", metavar="net", help=f"of {', '.join(nets.TRAINING)} ({' '.join(NETS)})")
    parser.add_argument("--scaling", nargs="*", default=["strong", "weak"], choices=["strong", "weak"])
    parser.add_argument("--workers", type=int, default=2, help="processes of a team, and threads of one process (2)")
    parser.add_argument("--batch", type=int, help="of one process; as in benchmarks/nets.py unless given")
    parser.add_argument("--rounds", type=int, default=10, help="turns each team takes (10)")
    parser.add_argument("--seconds", type=float, default=0.6, help="length of a turn; 2 iterations at least (0.6)")
    parser.add_argument("--torch-python", default=here, help="the interpreter with PyTorch (this one, if it has it)")
    parser.add_argument("--only", nargs="*", metavar="name", help="teams (all)")
    parser.add_argument("--link", action="store_true", help="time sums over the ranks instead of training")
    parser.add_argument(
        "--repeats", type=int, default=100, help="of --link: sums of each size, fewer of large ones (100)"
    )
    args = parser.parse_args()
    if unknown := set(args.nets) - set(nets.TRAINING):
        parser.error(f"unknown nets {', '.join(sorted(unknown))}; known are {', '.join(nets.TRAINING)}")
    known = {plan.name: plan for plan in plans(args.workers, args.torch_python)}
    if unknown := set(args.only or ()) - set(known):
        parser.error(f"unknown teams {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    teams = assemble([known[name] for name in args.only or known if not args.link or known[name].workers > 1])
    rows = link(teams, args.repeats) if args.link else list(HEAD)
    for net in [] if args.link else args.nets or NETS:
        for scaling in args.scaling:
            rows += table(net, scaling, race(net, scaling, teams, args.batch or nets.TRAINING[net][1], args))
    print("\n".join(rows), flush=True)
    for team in teams:
        team.end()


if __name__ == "__main__":
    main()
