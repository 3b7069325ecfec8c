#!/usr/bin/env python
"""Play random programs (tests/support/random_use) on several engines, and print those on which they disagree.

python tools/random_use.py 0 5000           # seeds 0 to 4999, numpy against oneDNN
python tools/random_use.py 0 500 cuda       # numpy against the CUDA engine
python tools/random_use.py 0 500 counting   # numpy against the engine in tests/engines/counting.py
python tools/random_use.py 0 500 mixed      # numpy against nets that run on the CPU and on the GPU in turn
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "engines")]

from minicaffe.testing import NUMPY  # noqa: E402  (needs the line above)
from random_use.compare import Disagreement, check  # noqa: E402
from random_use.player import played  # noqa: E402
from random_use.program import draw  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description="Run random programs on two engines and compare the results.")
    parser.add_argument("first", type=int, help="the first seed")
    parser.add_argument("count", type=int, help="how many seeds")
    engines = {engine.name: engine for engine in played()}
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
