"""python -m minicaffe.random_use FIRST COUNT [ENGINE]: play COUNT programs, print those on which engines disagree."""

from __future__ import annotations

import argparse
import logging
from collections import Counter

from minicaffe.random_use.compare import Disagreement, check
from minicaffe.random_use.player import GPU, MIXED, NUMPY, ONEDNN
from minicaffe.random_use.program import draw


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m minicaffe.random_use")
    parser.add_argument("first", type=int, help="the first seed")
    parser.add_argument("count", type=int, help="how many seeds")
    engines = {"onednn": ONEDNN, "gpu": GPU, "mixed": MIXED}
    parser.add_argument("engine", choices=engines, nargs="?", default="onednn", help="mixed: CPU and GPU in turn")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)  # `debug_info` writes a lot
    verdicts: Counter[str] = Counter()
    for seed in range(args.first, args.first + args.count):
        try:
            verdicts[check(draw(seed), (NUMPY, engines[args.engine]))] += 1
        except Disagreement as error:
            verdicts["disagreed"] += 1
            print(error, flush=True)
    print(dict(verdicts))
    raise SystemExit(1 if verdicts["disagreed"] else 0)


if __name__ == "__main__":
    main()
