#!/usr/bin/env python
"""Kill trainings at random moments, resume them, and compare the results with those of uninterrupted runs bit for bit.

python tools/kill_test.py                          # 1000 kills: SIGKILL, SIGTERM, SIGINT, SIGINT twice
python tools/kill_test.py --kills 100 --seed 7 --folder kills
python tools/kill_test.py --kills 100 --ranks 3    # trainings of three processes, one of which is killed

After each kill all processes have to end, and every visible file has to be whole.  Exit status 1 for a fault; the files
of that training are kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from kills.killing import RandomKills  # noqa: E402  (needs the line above)
from kills.ranks import RandomRankKills  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill trainings at random moments, and resume them.")
    parser.add_argument("--kills", type=int, default=1000, help="how often (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and signals (default 0)")
    parser.add_argument("--ranks", type=int, default=1, help="processes of each training (default 1)")
    parser.add_argument("--folder", type=Path, help="a new folder for the trainings (default: a temporary one)")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    kills = RandomKills(folder, args.seed) if args.ranks == 1 else RandomRankKills(folder, args.seed, args.ranks)
    fault = kills.run(args.kills)
    counts = ", ".join(f"{way} {count}" for way, count in sorted(kills.killed.items()))
    print(f"{sum(kills.killed.values())} kills ({counts}) in {kills.trainings} trainings, {1 if fault else 0} faults")
    if args.ranks > 1:
        longest = ", ".join(f"{way} {seconds:.1f} s" for way, seconds in sorted(kills.longest.items()))
        print(f"longest times from a kill until all processes have ended: {longest}")
    if fault:
        raise SystemExit(fault)


if __name__ == "__main__":
    main()
