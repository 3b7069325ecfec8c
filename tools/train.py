#!/usr/bin/env python
"""Train a net by its solver.

    python tools/train.py --solver SOLVER [--snapshot STATE] [--gpus ID ...] [--workers N] [--timing]

pycaffe's train.py; `minicaffe train` has more options.  Without --gpus and --workers, the solver's `solver_mode`
selects the device.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout that contains this script

from minicaffe.cli import main  # noqa: E402  (needs the line above)


def parse(argv=None):
    """Parse pycaffe's flags; return them and the arguments of `minicaffe train`."""
    parser = argparse.ArgumentParser(description="Train a net by its solver.")
    parser.add_argument("--solver", required=True, help="solver prototxt")
    parser.add_argument("--snapshot", help="solver state to resume from")
    parser.add_argument("--gpus", type=int, nargs="+", default=[], help="the GPUs to train on")
    parser.add_argument("--workers", type=int, help="train in so many processes on the CPU, which pycaffe's cannot")
    parser.add_argument("--timing", action="store_true", help="time the net's layers before training")
    args = parser.parse_args(argv)
    train = ["train", "--solver", args.solver]
    if args.snapshot:
        train += ["--snapshot", args.snapshot]
    if args.gpus:
        train += ["--gpu", ",".join(map(str, args.gpus))]
    if args.workers:
        train += ["--workers", str(args.workers)]
    return args, train


if __name__ == "__main__":
    args, train = parse()
    if args.timing:
        from minicaffe.proto import caffe_pb2, read_text

        solver = read_text(args.solver, caffe_pb2.SolverParameter())  # `train` reads and upgrades it
        device = ["--gpu", str(args.gpus[0])] if args.gpus else []
        main(["time", "--model", solver.net or solver.train_net, "--phase", "TRAIN", *device])
    sys.exit(main(train))
