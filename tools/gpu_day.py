#!/usr/bin/env python
"""All that a GPU is needed for, in one command of less than 25 minutes: tests, checkers, benchmarks, a whole training.

python tools/gpu_day.py --cifar10 data/cifar10             # the folder with CIFAR-10's LMDBs; report in gpu_day.md
python tools/gpu_day.py --only tests memcheck
python tools/gpu_day.py --smoke --out /tmp/day             # tiny sizes, also on the emulated driver: does all run?

Steps run one after another, each in a process with a time limit; what a step printed is kept in OUT/STEP.log. After
each step OUT/gpu_day.md is written anew, so an interrupted run keeps what was done; its text can be pasted into
docs/gpu.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ROOM = 24 * 60  # seconds for all steps together


class Step(NamedTuple):
    """A step: its command, the most seconds it may take, and a function that makes lines of markdown of its log."""

    name: str
    title: str
    command: list[str]
    limit: float
    lines: Callable[[str], list[str]]
    needs: str = ""  # a program; without it the step is left out
    environment: tuple[tuple[str, str], ...] = ()


class Result(NamedTuple):
    """What became of a step: "passed", "failed", "timed out" or "left out", seconds, and lines of markdown."""

    step: Step
    state: str
    seconds: float
    lines: list[str]


def last_line(log: str) -> list[str]:
    """Return the summary that pytest prints last."""
    return [line.strip("= ") for line in log.splitlines() if re.search(r"\d+ (passed|failed|error)", line)][-1:]


def checker_lines(log: str) -> list[str]:
    """Return compute-sanitizer's summary and the first errors, and pytest's summary."""
    lines = [line[10:].strip() for line in log.splitlines() if line.startswith("=========")]
    wrong = [line for line in lines if re.search(r"Invalid|Race|Error|hazard", line) and "SUMMARY" not in line]
    return [*wrong[:5], *[line for line in lines if "SUMMARY" in line], *last_line(log)]


def preformatted(log: str) -> list[str]:
    """Return the log as a block of text, without what it prints while it works."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip() and "\r" not in line]
    return ["```text", *lines[-400:], "```"]


def training_lines(log: str) -> list[str]:
    """Return the lines that say how long the training took and how accurate the net is."""
    return [line for line in log.splitlines() if line.startswith("cifar10_full,")] or log.splitlines()[-3:]


def steps(args: argparse.Namespace) -> list[Step]:
    """Return all steps in their order: what a fault would make worthless comes first."""
    python, out = sys.executable, args.out
    small = ["--smoke"] if args.smoke else []
    suite = ["tests/cuda/test_ops.py", "-k", "gemv"] if args.smoke else ["-m", "gpu"]
    subset = ["tests/cuda/test_ops.py", "-k", "gemv"] if args.smoke else ["tests/layers/test_golden.py", "-m", "gpu"]
    pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    exact = (("MINICAFFE_DEVICE_POOL", "0"), ("MINICAFFE_REQUIRE_CUDA", "1"))

    def checker(tool: str) -> list[str]:
        return [
            args.sanitizer,
            f"--tool={tool}",
            "--error-exitcode=1",
            "--target-processes=all",
            *pytest,
            "-x",
            *subset,
        ]

    benchmark = [python, "benchmarks/gpu.py", *small, "--json", str(out / "gpu.json")]
    if args.smoke:
        benchmark += ["--only", "cifar10_quick", "--tasks", "training", "--with", "minicaffe float32"]
    else:
        benchmark += ["--quick", "--rounds", "5"]
    found = [
        Step("device", "Device", [python, "-m", "minicaffe", "device_query"], 60, preformatted),
        Step(
            "compile",
            "Compilation of all kernels",
            [python, "tools/compile_kernels.py"],
            180,
            lambda log: [log.strip()],
        ),
        Step("tests", "Tests (`pytest -m gpu`)", [*pytest, *suite], 420, last_line, environment=exact[1:]),
        Step("memcheck", "compute-sanitizer memcheck", checker("memcheck"), 180, checker_lines, args.sanitizer, exact),
        Step(
            "racecheck", "compute-sanitizer racecheck", checker("racecheck"), 180, checker_lines, args.sanitizer, exact
        ),
        Step("benchmark", "Benchmark, with PyTorch where it is installed", benchmark, 420, preformatted),
    ]
    if args.cifar10:
        train = [
            python,
            "benchmarks/gpu.py",
            *small,
            "--cifar10",
            str(args.cifar10),
            "--log",
            str(out / "cifar10_full.log"),
        ]
        iterations = "10" if args.smoke else "70,000"
        found.append(Step("training", f"cifar10_full, {iterations} iterations", train, 300, training_lines))
    wanted = args.only or [step.name for step in found if not (args.smoke and step.name == "compile")]
    return [step for step in found if step.name in wanted]


def run(step: Step, out: Path, limit: float) -> Result:
    """Run a step for at most so many seconds; its output goes to a file."""
    if step.needs and not shutil.which(step.needs):
        return Result(step, "left out", 0.0, [f"{step.needs} is not installed (CUDA's toolkit has it)"])
    if limit < 1:
        return Result(step, "left out", 0.0, ["no time was left"])
    log, began = out / f"{step.name}.log", time.monotonic()
    environment = {**os.environ, **dict(step.environment)}
    with open(log, "wb") as file:
        process = subprocess.Popen(
            step.command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            state = "failed" if process.wait(limit) else "passed"
        except subprocess.TimeoutExpired:
            state = "timed out"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    text = log.read_text(errors="replace")
    lines = step.lines(text) if state != "failed" else [*step.lines(text), *preformatted(text)[-12:]]
    return Result(step, state, time.monotonic() - began, lines)


def report(results: list[Result], out: Path) -> None:
    """Write gpu_day.md, and the states of all steps as JSON, whole files each."""
    text = ["| step | result | seconds |", "| --- | --- | ---: |"]
    text += [f"| {result.step.title} | {result.state} | {result.seconds:.0f} |" for result in results]
    for result in results:
        text += ["", f"### {result.step.title}", "", *result.lines]
    states = {result.step.name: {"state": result.state, "seconds": result.seconds} for result in results}
    for name, content in (("gpu_day.md", "\n".join(text) + "\n"), ("gpu_day.json", json.dumps(states, indent=1))):
        part = out / (name + ".part")
        part.write_text(content, encoding="utf-8")
        part.replace(out / name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("device", "compile", "tests", "memcheck", "racecheck", "benchmark", "training")
    parser.add_argument("--out", type=Path, default=Path("gpu_day"), help="folder for the report and all logs")
    parser.add_argument(
        "--cifar10", type=Path, metavar="FOLDER", help="CIFAR-10's LMDBs; without it nothing is trained"
    )
    parser.add_argument("--only", nargs="*", choices=names, default=[], metavar="STEP", help=", ".join(names))
    parser.add_argument("--sanitizer", default="compute-sanitizer", help="the program, if it is not in PATH")
    parser.add_argument("--minutes", type=float, default=ROOM / 60, help="for all steps together (24)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does everything run?")
    args = parser.parse_args()
    args.out = args.out.absolute()
    args.cifar10 = args.cifar10 and args.cifar10.absolute()
    args.out.mkdir(parents=True, exist_ok=True)
    end, results = time.monotonic() + 60 * args.minutes, []
    for step in steps(args):
        print(f"{step.title} ...", end=" ", flush=True)
        results.append(run(step, args.out, min(step.limit, end - time.monotonic())))
        print(f"{results[-1].state}, {results[-1].seconds:.0f} s", flush=True)
        report(results, args.out)
    print(f"report: {args.out / 'gpu_day.md'}")
    return 1 if any(result.state in ("failed", "timed out") for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
