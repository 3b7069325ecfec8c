"""Parser of training logs of minicaffe and of the original, which have the same format.

    I0804 10:22:42.074671  8318 solver.cpp:218] Iteration 100 (29.1715 iter/s, 3.428s/100 iters), loss = 0.260325
    I0804 10:22:42.074700  8318 solver.cpp:237]     Train net output #0: loss = 0.260325 (* 1 = 0.260325 loss)
    I0804 10:22:42.074717  8318 sgd_solver.cpp:105] Iteration 100, lr = 0.00992565

Also parsed are the lines of old versions, without the part in brackets, those of forks, with further parts (NVIDIA's
"0.4/10ep"), and Windows' spelling of nan and inf ("-1.#IND", "1.#INF").  `parse_log` returns the tables of the
original's parse_log.py, `read_curves` the curves for a plot.
"""

from __future__ import annotations

import bisect
import datetime
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from minicaffe.errors import DataError
from minicaffe.files import read_bytes, write_atomically
from minicaffe.text import csv_text, printable

PathLike = str | os.PathLike
Row = dict[str, float]

_NUMBER = r"[-+]?(?:1\.#[A-Z]+\d*|\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|(?i:nan(?:\(\w*\))?|inf(?:inity)?))"
_ITERATION = re.compile(r"Iteration (\d{1,18})(?!\d)")
_OUTPUT = re.compile(rf"(Train|Test) net output #(\d{{1,9}}): (\S+) = ({_NUMBER})( \(\* )?")
_RATE = re.compile(rf"\blr = ({_NUMBER})")
_LOSS = re.compile(rf"[^=]*, loss = ({_NUMBER})")  # behind the iteration
_TEST_NET = re.compile(r"Testing net \(#(\d+)\)")
_STAMP = re.compile(r"[IWEF](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d+)")
_LONGEST_LINE = 30000  #: characters, as in glog; what is beyond them is not read
_LARGEST_TABLE = 1 << 22  #: cells
_MOST_NUMBERS = 20  #: of an output, as curves


class _Places:
    """Which of an output's numbers a line reports: an output with several has one line for each of them."""

    def __init__(self) -> None:
        self._last = -1
        self._counts: Counter[tuple[str, str]] = Counter()

    def of(self, output: re.Match) -> int:
        """Return the place, from 0 on, of the number that a line reports."""
        index, name = int(output[2]), (output[1], output[3])
        if index <= self._last:  # the first output of the next report
            self._counts.clear()
        self._last = index
        self._counts[name] += 1
        return self._counts[name] - 1


# -- times -------------------------------------------------------------------------------------------------------------


def extract_datetime_from_line(line: str, year: int) -> datetime.datetime:
    """Return the time stamp of a log line; `year` is needed because stamps have none.

    DataError for a line without a stamp.
    """
    match = _STAMP.match(line.strip())
    try:
        if match:
            month, day, hour, minute, second = map(int, match.groups()[:5])
            micro = int(match[6][:6].ljust(6, "0"))
            return datetime.datetime(year, month, day, hour, minute, second, micro)
    except ValueError:
        pass
    raise DataError(f"expected a log line such as 'I0210 13:39:22.381027 25210 ...', got {line.strip()[:80]!r}")


def get_log_created_year(input_file: PathLike) -> int:
    """Return the year of the file's last modification, when its last line was written.

    DataError when the file does not exist.
    """
    try:
        return datetime.datetime.fromtimestamp(os.path.getmtime(input_file)).year
    except (OSError, ValueError, OverflowError) as error:  # the last two for a null character and a time out of range
        raise DataError(f"cannot read the log '{input_file}': {getattr(error, 'strerror', error)}") from error


def get_start_time(line_iterable: Iterable[str], year: int) -> datetime.datetime | None:
    """Return the time of the first line that contains "Solving", the start of training; None if there is none."""
    for line in line_iterable:
        if "Solving" in line and _STAMP.match(line.strip()):
            return extract_datetime_from_line(line, year)
    return None


def extract_seconds(input_file: PathLike, output_file: PathLike) -> None:
    """Write the seconds from the line with "Solving" to each line with an iteration, one per line.

    DataError when the log cannot be read or has no line with "Solving".
    """
    lines = _read_lines(input_file)
    year = get_log_created_year(input_file)
    if get_start_time(lines, year) is None:
        raise DataError(f"log '{input_file}': no line with a time contains \"Solving\", so the start is unknown")
    seconds = (s for line, s in _with_seconds(lines, year) if "Iteration" in line and not math.isnan(s))
    write_atomically(output_file, "".join(f"{s:f}\n" for s in seconds))


def _read_lines(path: PathLike) -> list[str]:
    try:
        text = read_bytes(path, pipes=True).decode("utf-8", "replace")
    except OSError as error:
        raise DataError(f"cannot read the log '{path}': {error.strerror}") from error
    return [line[:_LONGEST_LINE] for line in text.splitlines()]


def _with_seconds(lines: list[str], year: int) -> Iterator[tuple[str, float]]:
    """Yield each line with the seconds since the start of training; nan before the first stamp.

    The start is the line with "Solving" or, if there is none, the first stamp.  A month smaller than the previous
    one starts a new year.
    """
    start, month, seconds = get_start_time(lines, year), 0, math.nan
    for line in lines:
        if match := _STAMP.match(line.strip()):
            year += int(match[1]) < month
            month = int(match[1])
            time = extract_datetime_from_line(line, year)
            start = start or time
            seconds = (time - start).total_seconds()
        yield line, seconds


# -- parse_log ---------------------------------------------------------------------------------------------------------


def parse_log(path_to_log: PathLike) -> tuple[list[Row], list[Row]]:
    """Return the training rows and the test rows of a log: NumIters, Seconds, LearningRate, and net outputs by name.

    The numbers of an output that has several are "name[0]", "name[1]" and so on.  One row is one display or one test;
    several test nets give several rows per iteration.  The first row is logged before any learning rate, so its rate is
    copied from the second row.
    DataError when the file cannot be read, or has too many outputs for a table.
    """
    rows: dict[str, list[Row]] = {"Train": [], "Test": []}
    iteration, rate, places = -1.0, math.nan, _Places()
    for line, seconds in _with_seconds(_read_lines(path_to_log), get_log_created_year(path_to_log)):
        if match := _ITERATION.search(line):
            iteration = float(match[1])
        if iteration < 0:
            continue
        if match := _RATE.search(line):
            rate = _number(match[1])
        if match := _OUTPUT.search(line):
            place, table = places.of(match), rows[match[1]]
            name = f"{match[3]}[{place}]" if place else match[3]
            if not table or table[-1]["NumIters"] != iteration or name in table[-1]:
                table.append({"NumIters": iteration, "Seconds": seconds, "LearningRate": rate})
            table[-1][name] = _number(match[4])
    fix_initial_nan_learning_rate(rows["Train"])
    fix_initial_nan_learning_rate(rows["Test"])
    for table in rows.values():
        table[:] = _with_places(table)
        names = {name for row in table for name in row}
        if len(names) * len(table) > _LARGEST_TABLE and len(names) > 100:
            raise DataError(f"log '{path_to_log}': {len(table)} rows of {len(names)} outputs are too large for a table")
    return rows["Train"], rows["Test"]


def _with_places(table: list[Row]) -> list[Row]:
    """Return rows in which the first number of an output with several is called "name[0]"."""
    several = {name.removesuffix("[1]") for row in table for name in row if name.endswith("[1]")}
    if not several:
        return table
    return [{f"{name}[0]" if name in several else name: row[name] for name in row} for row in table]


def _number(text: str) -> float:
    """Parse a number as printed by C libraries; Windows prints inf as "1.#INF", nan as "-1.#IND" or "nan(ind)"."""
    if "#" not in text and "(" not in text:
        return float(text)
    return float(f"{'-' if text[0] == '-' else ''}{'inf' if '#INF' in text else 'nan'}")


def fix_initial_nan_learning_rate(dict_list: list[Row]) -> None:
    """Copy the learning rate of the second row to the first, which is logged before any rate."""
    if len(dict_list) > 1:
        dict_list[0]["LearningRate"] = dict_list[1]["LearningRate"]


def save_csv_files(
    logfile_path: PathLike,
    output_dir: PathLike,
    train_dict_list: list[Row],
    test_dict_list: list[Row],
    delimiter: str = ",",
    verbose: bool = False,
) -> None:
    """Write the tables of `parse_log` as OUTPUT_DIR/LOG.train and LOG.test; arguments as for `write_csv`."""
    base = os.path.join(output_dir, os.path.basename(logfile_path))
    write_csv(f"{base}.train", train_dict_list, delimiter, verbose)
    write_csv(f"{base}.test", test_dict_list, delimiter, verbose)


def write_csv(output_filename: PathLike, dict_list: list[Row], delimiter: str = ",", verbose: bool = False) -> None:
    """Write rows as CSV, with a line of column names; without rows, write nothing.

    delimiter: between columns, default ",".  verbose: print the name of the file (default False).
    """
    if not dict_list:
        if verbose:
            print(printable(f"Not writing {output_filename}; no lines to write"))
        return
    names = dict.fromkeys(name for row in dict_list for name in row)
    rows = ([row.get(name, "") for name in names] for row in dict_list)
    write_atomically(output_filename, csv_text([names, *rows], delimiter))
    if verbose:
        print(printable(f"Wrote {output_filename}"))


# -- curves ------------------------------------------------------------------------------------------------------------


@dataclass
class Curve:
    """Values over iterations and seconds; `kind` is "loss", "score" or "rate", `of` is "Train" or "Test"."""

    name: str
    kind: str
    of: str
    iterations: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, iteration: float, seconds: float, value: float) -> None:
        """Append a point."""
        self.iterations.append(iteration)
        self.seconds.append(seconds)
        self.values.append(value)


def read_curves(path_to_log: PathLike) -> list[Curve]:
    """Return all curves of a log: average training loss, outputs of training and test nets, learning rate.

    The kind of an output is "loss" if the log shows its loss weight or its name ends in "loss", otherwise "score".
    To the outputs of further test nets " (#1)" and so on is appended.  An output with several numbers has a curve for
    each, "name[0]" and so on; with more than 20 it has none.  If a resumed run has appended to the log, its
    values replace those of the same iterations.
    DataError when the file cannot be read or contains no iteration.
    """
    curves: dict[tuple[str, str, int], Curve] = {}
    iteration, net, places = -1.0, "", _Places()
    for line, seconds in _with_seconds(_read_lines(path_to_log), get_log_created_year(path_to_log)):
        if match := _ITERATION.search(line):
            if float(match[1]) < iteration:
                _cut(curves.values(), float(match[1]))
            iteration = float(match[1])
        if match := _TEST_NET.search(line):
            net = f" (#{match[1]})" if match[1] != "0" else ""
        reported = _reported_value(line, places)
        if reported and iteration >= 0:
            of, name, place, kind, value = reported
            where = net if of == "Test" else ""
            if place and (first := curves.get((of, name + where, 0))):
                first.name = f"{name}[0]{where}"
            if place <= _MOST_NUMBERS:  # one more, by which an output with too many is found
                curve = Curve(f"{name}[{place}]{where}" if place else name + where, kind, of)
                curves.setdefault((of, name + where, place), curve).add(iteration, seconds, value)
    long = {(of, name) for of, name, place in curves if place == _MOST_NUMBERS}
    curves = {key: curve for key, curve in curves.items() if key[:2] not in long}
    found = [curve for curve in curves.values() if curve.values]  # a resumed run may have replaced all of one
    if not found:
        raise DataError(f"log '{path_to_log}': no line reports the loss or an output of an iteration")
    return found


def _reported_value(line: str, places: _Places) -> tuple[str, str, int, str, float] | None:
    """Parse a line that reports a value: ("Train" or "Test", name, place, kind, value); None for any other line."""
    if match := _OUTPUT.search(line):
        kind = "loss" if match[5] or match[3].endswith("loss") else "score"
        return match[1], match[3], places.of(match), kind, _number(match[4])
    if (iteration := _ITERATION.search(line)) and (match := _LOSS.match(line, iteration.end())):
        return "Train", "average loss", 0, "loss", _number(match[1])
    if match := _RATE.search(line):
        return "Train", "learning rate", 0, "rate", _number(match[1])
    return None


def _cut(curves: Iterable[Curve], iteration: float) -> None:
    """Drop the points at and after an iteration: a resumed run logs them again."""
    for curve in curves:
        keep = bisect.bisect_left(curve.iterations, iteration)
        del curve.iterations[keep:], curve.seconds[keep:], curve.values[keep:]
