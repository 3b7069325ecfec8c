#!/usr/bin/env python
"""Read damaged and hostile files of every kind (tests/support/fuzz), and print those that are not refused properly.

python tools/fuzz.py                                  # every kind for a minute
python tools/fuzz.py --seconds 3600                   # an hour in all, shared by the kinds
python tools/fuzz.py --kinds lmdb,hdf5_data --count 10000 --first 50000
python tools/fuzz.py --kinds lmdb --save found        # keep the contents of faults as files in found/lmdb/
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from fuzz.kind import Kind, all_kinds  # noqa: E402  (needs the line above)
from fuzz.worker import outcomes  # noqa: E402


def main() -> None:
    kinds = all_kinds()
    parser = argparse.ArgumentParser(description="Read damaged and hostile files of every kind.")
    parser.add_argument("--kinds", default=",".join(kinds), help="names separated by commas (default: all)")
    parser.add_argument("--seconds", type=float, help="for how long, all kinds together (default 60 for each)")
    parser.add_argument("--count", type=int, help="how many files of each kind, instead of a time")
    parser.add_argument("--first", type=int, default=0, help="number of the first file of each kind (default 0)")
    parser.add_argument("--save", type=Path, help="a folder for the contents of faults")
    args = parser.parse_args()
    chosen = [kinds[name] for name in args.kinds.split(",")]
    each = args.seconds / len(chosen) if args.seconds else 60
    total: Counter[str] = Counter()
    for kind in chosen:
        total += run(kind, args.first, args.count, each, args.save)
    print(f"all {sum(total.values())}: {dict(total)}")
    raise SystemExit(1 if total.keys() - {"done", "refused"} else 0)


def run(kind: Kind, first: int, count: int | None, seconds: float, save: Path | None) -> Counter[str]:
    """Run one kind; print its faults, one line for each different text, and its counts."""
    verdicts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    until = time.monotonic() + seconds

    def contents() -> Iterator[tuple[int, bytes]]:
        number = first
        while number < first + count if count else time.monotonic() < until:
            yield number, kind.draw(number)
            number += 1

    for outcome in outcomes(kind, contents()):
        verdicts[outcome.verdict] += 1
        if outcome.is_fault:
            line = f"{kind.name} {outcome.verdict}: {outcome.text}"
            if not faults[line]:
                print(f"{line}   (number {outcome.number})", flush=True)
            faults[line] += 1
            if save:
                path = save / kind.name / str(outcome.number)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(kind.draw(outcome.number))
    print(f"{kind.name} {sum(verdicts.values())}: {dict(verdicts)}", flush=True)
    return verdicts


if __name__ == "__main__":
    main()
