"""Plots of training logs: `minicaffe plot`, and the chart types of the original's plot_training_log.

Figures are matplotlib's and open no window; `save` writes them to a file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from minicaffe.errors import DataError, UsageError
from minicaffe.files import replacing
from minicaffe.pictures.parse_log import Curve, parse_log, read_curves
from minicaffe.pictures.runs import COLORS, run_colors, run_labels
from minicaffe.pictures.ticks import dress, dress_rate
from minicaffe.text import printable_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PathLike = str | os.PathLike

_MOST_CURVES = 100  #: in one panel
_LONGEST_NAME = 60  #: characters of the name of an output
_MOST_INSIDE = 6  #: lines of a legend inside its panel
_MOST_BESIDE = 16  #: lines of a column of a legend beside its panel
_PANELS = (("loss", "loss"), ("score", "accuracy"), ("number", "other outputs"), ("rate", "learning rate"))
_LARGEST_SCORE = 2  #: scores beyond it, as a weight that falls from 1000 to 5, would hide the shares in their panel


def plot_logs(paths: Sequence[PathLike], x: str = "iterations", log_y: bool = False, smooth: int = 1) -> Figure:
    """Return a figure with panels for losses, for scores such as accuracy, for outputs beyond 2, and for the rate.

    paths: one or more logs; each has its own colour.  x: unit of the x axis, "iterations" (default) or "seconds".
    log_y: whether the loss axis is logarithmic (default False).
    smooth: number of points over which training curves are averaged (default 1).
    Values on training data are thin lines, values on test data are thick lines with dots.
    Values beyond those of float32 are not drawn, like nan and inf.
    UsageError for another x, DataError for a log that cannot be read, and for more than 100 curves in a panel.
    """
    if x not in ("iterations", "seconds"):
        raise UsageError(f"plot: the x axis must be iterations or seconds, got {x!r}")
    return plot_runs([read_curves(path) for path in paths], run_labels(paths), x, log_y, smooth)


def plot_runs(
    runs: list[list[Curve]], labels: Sequence[str], x: str = "iterations", log_y: bool = False, smooth: int = 1
) -> Figure:
    """Return the figure of `plot_logs` for curves; labels: the name of each run."""
    runs = [[_placed(curve) for curve in run] for run in runs]
    _check_number(runs)
    kinds = [(kind, title) for kind, title in _PANELS if any(c.kind == kind for run in runs for c in run)]
    figure = new_figure(9, 2.6 * len(kinds) + 0.8)
    heights = [2 if kind == "rate" else 4 for kind, _ in kinds]
    axes = figure.subplots(len(kinds), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (kind, title) in zip(axes, kinds):
        for run, label, color in zip(runs, labels, run_colors(len(runs))):
            _draw_run(ax, [c for c in run if c.kind == kind], label if len(runs) > 1 else "", color, x, smooth)
        scores = [c for run in runs for c in run if c.kind == kind == "score"]
        ax.set_ylabel("scores" if any("acc" not in c.name.lower() for c in scores) else title)
        if kind == "rate":
            dress_rate(ax)
        else:
            dress(ax, log_y=log_y and kind == "loss")
    _add_legends(figure, axes, kinds, len(runs))
    axes[-1].set_xlabel(x)
    if len(runs) == 1:
        axes[0].set_title(label_text(labels[0]), fontsize=11, loc="left")
    figure.align_ylabels()
    return figure


def _add_legends(figure: Figure, axes: Sequence, kinds: Sequence[tuple[str, str]], runs: int) -> None:
    """Add a legend to each panel, but not to that of the rate, whose colours are those of the others.

    Where one has more than _MOST_INSIDE lines, all are beside the panels, and the figure is wider.
    """
    named = [ax for ax, (kind, _) in zip(axes, kinds) if kind != "rate" or (runs > 1 and len(kinds) == 1)]
    most = max((len(ax.lines) for ax in named), default=0)
    if most <= _MOST_INSIDE:
        for ax in named:
            ax.legend(fontsize=8, frameon=False)
        return
    columns = math.ceil(most / _MOST_BESIDE)
    figure.set_size_inches(9 + 3.4 * columns, figure.get_figheight())
    for ax in named:
        ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), ncols=columns)


def _placed(curve: Curve) -> Curve:
    """Return the curve, of the kind "number" if it is a score that goes beyond _LARGEST_SCORE."""
    large = curve.kind == "score" and any(abs(value) > _LARGEST_SCORE for value in _finite(curve.values))
    return replace(curve, kind="number") if large else curve


def _check_number(runs: list[list[Curve]]) -> None:
    for kind, _ in _PANELS:
        number = sum(curve.kind == kind for run in runs for curve in run)
        if number > _MOST_CURVES:
            raise DataError(f"plot: expected at most {_MOST_CURVES} curves of one kind, got {number} of kind {kind}")


def _draw_run(ax, curves: list[Curve], label: str, color: str, x: str, smooth: int) -> None:
    trained = [c for c in curves if c.of == "Train"]
    if len(trained) > 1:  # the average loss duplicates the loss outputs: keep those, which have names
        trained = [c for c in trained if c.name != "average loss"] or trained
    tested = [c for c in curves if c.of == "Test"]
    for curve, style in zip(trained, _cycle(("-", "--", ":", "-."), len(trained))):
        rate = curve.kind == "rate"
        values = moving_average(_finite(curve.values), 1 if rate else smooth)
        ax.plot(
            _finite(getattr(curve, x)),
            values,
            style,
            color=color,
            linewidth=0.9,
            alpha=0.75,
            drawstyle="steps-post" if rate else "default",
            label=_name(label, "" if rate else "train", _short(curve.name)),
        )
    for curve, marker in zip(tested, _cycle("os^Dv", len(tested))):
        ax.plot(
            _finite(getattr(curve, x)),
            _finite(curve.values),
            "-",
            marker=marker,
            color=color,
            linewidth=1.8,
            markersize=3.5,
            label=_name(label, "test", _short(curve.name), f"({curve.values[-1]:.4g} at the end)"),
        )


def _name(*words: str) -> str:
    return label_text(" ".join(word for word in words if word))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _finite(values: Sequence[float]) -> np.ndarray:
    """Return values as an array, with nan for those beyond float32: matplotlib cannot scale axes of float64's range."""
    numbers = np.asarray(values, float)
    return np.where(np.abs(numbers) <= np.finfo(np.float32).max, numbers, np.nan)


def moving_average(values: Sequence[float] | np.ndarray, width: int) -> np.ndarray:
    """Average each value with up to `width` - 1 values before it; nan where one of them is nan or inf."""
    numbers = np.asarray(values, float)
    if width <= 1 or len(numbers) == 0:
        return numbers
    finite = np.isfinite(numbers)
    sums, counts = (np.cumsum(np.concatenate([[0.0], v])) for v in (np.where(finite, numbers, 0), finite))
    ends = np.arange(1, len(numbers) + 1)
    begins = np.maximum(ends - min(width, len(numbers)), 0)
    whole = counts[ends] - counts[begins] == ends - begins
    return np.where(whole, (sums[ends] - sums[begins]) / (ends - begins), np.nan)


def save(figure: Figure, path: PathLike) -> None:
    """Write a figure atomically, in the format of the file's extension (png, svg, pdf); UsageError for another one."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format=picture_format(path), dpi=150)


def picture_format(path: PathLike) -> str:
    """Return the format of a picture, by the file's extension; UsageError if it cannot be written."""
    from matplotlib.backend_bases import FigureCanvasBase

    ext = os.path.splitext(path)[1].removeprefix(".").lower()
    if ext not in FigureCanvasBase.get_supported_filetypes():
        raise UsageError(f"'{path}' must end in a format that can be written, such as .png or .svg")
    return ext


# -- the chart types of plot_training_log ------------------------------------------------------------------------------

_FIELDS = (("Test", "accuracy"), ("Test", "loss"), ("Train", "learning rate"), ("Train", "loss"))
_X_FIELDS = (("Iters", "NumIters"), ("Seconds", "Seconds"))


def get_supported_chart_types() -> list[str]:
    """Return the names of the eight chart types: "Test accuracy  vs. Iters", "Test accuracy  vs. Seconds", ..."""
    return [f"{of} {what}  vs. {x}" for of, what in _FIELDS for x, _ in _X_FIELDS]


def plot_chart(chart_type: int, path_to_png: PathLike, path_to_log_list: Sequence[PathLike]) -> None:
    """Draw one chart type of one or more logs into a file.

    chart_type: index into `get_supported_chart_types()`.
    UsageError for an unknown type, an unknown file format or a log without the values; DataError for a log that cannot
    be read.
    """
    types = get_supported_chart_types()
    if not 0 <= chart_type < len(types):
        raise UsageError(f"{chart_type} is not a valid chart type: expected 0 to {len(types) - 1}")
    (of, what), (x_title, x_name) = _FIELDS[chart_type // 2], _X_FIELDS[chart_type % 2]
    figure = new_figure(7, 5)
    ax = figure.subplots()
    labels, colors = run_labels(path_to_log_list), _cycle(COLORS, len(path_to_log_list))
    for path, label, color in zip(path_to_log_list, labels, colors):
        rows = parse_log(path)[0 if of == "Train" else 1]
        name = "LearningRate" if what == "learning rate" else _find_output(rows, what)
        points = [(row[x_name], row[name]) for row in rows if name in row]
        if not points:
            raise UsageError(f"log '{path}': no {of.lower()} net output is called {what}")
        ax.plot(*map(_finite, zip(*points)), color=color, marker=".", linewidth=0.9, label=label_text(label))
    ax.set_title(types[chart_type])
    ax.set_xlabel(x_title)
    ax.set_ylabel(f"{of} {what}")
    dress(ax)
    ax.legend(loc="lower right" if what == "accuracy" else "upper right", fontsize=8, frameon=False)
    save(figure, path_to_png)


def _find_output(rows: Sequence[dict], what: str) -> str:
    """Return the output of that name, else the first whose name contains it (accuracy/top-1, loss1/loss)."""
    names = dict.fromkeys(name for row in rows for name in row)
    return what if what in names else next((name for name in names if what in name.lower()), what)


# -- confusion ---------------------------------------------------------------------------------------------------------


def plot_confusion(
    matrix: np.ndarray, labels: Sequence[str] | None, path: PathLike, unranked: np.ndarray | None = None
) -> None:
    """Draw a confusion matrix, normalized per row, with the recall of each class.

    matrix: (C, C) counts [true class, predicted class].  labels: C class names; None: numbers.
    unranked: (C,) counts of those of each true class without a prediction, which are wrong; None (default): none.
    path: file to write, as for `save`.
    UsageError when shapes do not match, or for an unknown file format.
    """
    matrix = np.asarray(matrix, float)
    classes = len(matrix)
    if matrix.shape != (classes, classes) or (labels is not None and len(labels) != classes):
        raise UsageError(
            f"plot_confusion: expected a (C, C) matrix and C labels, got {matrix.shape} and "
            f"{len(labels) if labels is not None else 'no'} labels"
        )
    labels = [str(i) for i in range(classes)] if labels is None else [label_text(name) for name in labels]
    totals = matrix.sum(1, keepdims=True) + (0 if unranked is None else np.reshape(unranked, (classes, 1)))
    share = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    side = min(max(3.5 + 0.42 * classes, 5), 16)
    figure = new_figure(side + 0.6, side)
    ax = figure.subplots()
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03, label="share of the true class")
    if classes <= 30:
        _write_cells(ax, matrix, share)
        ax.set_xticks(range(classes), labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
        recalls = [f"{name}  {100 * share[i, i]:.0f}%" for i, name in enumerate(labels)]
        ax.set_yticks(range(classes), recalls, fontsize=9)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class, recall")
    total = totals.sum()
    ax.set_title(f"{np.trace(matrix) / total if total else math.nan:.2%} of {total:.0f} right", fontsize=11)
    save(figure, path)


def _write_cells(ax, matrix: np.ndarray, share: np.ndarray) -> None:
    for (i, j), count in np.ndenumerate(matrix):
        if count:
            ax.text(
                j,
                i,
                f"{count:g}",
                ha="center",
                va="center",
                fontsize=8 if len(matrix) <= 15 else 6.5,
                color="white" if share[i, j] > 0.55 else "#243b53",
            )


# -- style -------------------------------------------------------------------------------------------------------------


def label_text(name: str) -> str:
    """Return a name from a file as matplotlib draws it literally: control characters escaped, "$" not as TeX."""
    return printable_line(name).replace("$", r"\$")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty matplotlib figure without a window; width and height are in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _cycle(values: Sequence, count: int) -> list:
    return [values[i % len(values)] for i in range(count)]
