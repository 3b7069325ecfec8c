"""From the database to the accuracy: cifar10_full, trained on the GPU by the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def end_to_end(folder: str, log: str, math: str, limits: tuple[int, ...], batch: int = 0) -> dict:
    """Train cifar10_full in its three parts by `minicaffe train`; return seconds and test accuracies.

    batch: the batch size, if not the net's; tests then have two batches.
    """
    open(log, "w").close()
    with tempfile.TemporaryDirectory() as work:
        began = time.perf_counter()
        state = None
        for part, limit in zip(("solver", "solver_lr1", "solver_lr2"), limits, strict=True):
            state = _train_part(work, os.path.abspath(folder), part, limit, state, math, log, batch)
        seconds = time.perf_counter() - began
    with open(log) as file:
        lines = [line.rsplit("=", 1)[1] for line in file if "net output" in line and "accuracy" in line]
    accuracies = [float(words.split()[0]) for words in lines]
    print(f"\ncifar10_full, {limits[-1]} iterations with data and tests, {math}: {seconds:.1f} s, "
          f"accuracy {accuracies[-1]:.4f}; log: {log}")  # fmt: skip
    return {"seconds": seconds, "accuracies": accuracies, "math": math, "iterations": limits[-1]}


def _train_part(work: str, data: str, part: str, limit: int, state: str | None, math: str, log: str, batch: int) -> str:
    """Run one part in a process of its own, appending to `log`; return the path of its final solver state."""
    from minicaffe.proto import read_net, read_solver

    models = os.path.join(ROOT, "models", "cifar10_full")
    net = read_net(os.path.join(models, "train_test.prototxt"))
    solver = read_solver(os.path.join(models, part + ".prototxt"))
    for layer in net.layer:
        if layer.type == "Data":
            layer.data_param.batch_size = batch or layer.data_param.batch_size
            layer.data_param.source = os.path.join(data, os.path.basename(layer.data_param.source))
            layer.transform_param.mean_file = os.path.join(data, os.path.basename(layer.transform_param.mean_file))
    files = {"net.prototxt": net, f"{part}.prototxt": solver}
    solver.net, solver.snapshot_prefix = os.path.join(work, "net.prototxt"), os.path.join(work, "full")
    solver.max_iter, solver.snapshot = limit, 0
    solver.test_iter[:] = [2] if batch else solver.test_iter
    for name, message in files.items():
        with open(os.path.join(work, name), "w") as file:
            file.write(str(message))
    command = [sys.executable, "-m", "minicaffe", "train", "--solver", os.path.join(work, f"{part}.prototxt")]
    command += ["-gpu", "0", "--math", math, *(["--snapshot", state] if state else [])]
    with open(log, "a") as file:
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH")))))
        subprocess.run(command, stderr=file, stdout=file, check=True, env=environment)
    return os.path.join(work, f"full_iter_{limit}.solverstate.h5")
