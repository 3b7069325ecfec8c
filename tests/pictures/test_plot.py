"""Plots of logs: ticks of rates, legends of several runs, and drawing while a training writes its log."""

import numpy as np
import pytest

from minicaffe.cli import main
from minicaffe.cli.plot import watch
from minicaffe.pictures import plot
from minicaffe.pictures.runs import COLORS, run_colors

SLEEP = "minicaffe.cli.plot.time.sleep"
DONE = "I1128 10:00:00.000000  1 train.cpp:1] Optimization Done."


def lines_of(rates, every=10, accuracy=0.5):
    """Lines of a log with a display of each rate, and a test at the end."""
    prefix = "I1128 10:00:00.000000  1 solver.cpp:218] "
    found = ["Solving x"]
    for i, rate in enumerate(rates):
        found += [f"Iteration {i * every}, loss = {1 / (i + 1)}", f"Iteration {i * every}, lr = {rate}"]
    found += [f"Iteration {i * every}, Testing net (#0)", f"    Test net output #0: accuracy = {accuracy}"]
    return [prefix + line for line in found]


@pytest.fixture
def log(tmp_path):
    """Return a function that writes a log and returns its path."""

    def write(rates, name="train.log", **options):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines_of(rates, **options)) + "\n")
        return str(path)

    return write


def tick_boxes(figure, ax):
    """Return the tick labels on the y axis that are in view, with their extents in pixels, from the bottom."""
    figure.canvas.draw()
    low, high = sorted(ax.get_ylim())
    ticks = [t for t in ax.yaxis.get_major_ticks() if low <= t.get_loc() <= high and t.label1.get_text()]
    return sorted(((t.label1.get_text(), t.label1.get_window_extent()) for t in ticks), key=lambda tick: tick[1].y0)


def test_a_constant_rate_has_one_tick(log):
    figure = plot.plot_logs([log([0.01] * 4)])
    assert [text for text, _ in tick_boxes(figure, figure.axes[-1])] == ["0.01"]
    assert [text for text, _ in tick_boxes(figure, figure.axes[1])] == ["0.5"]  # the accuracy of one test
    figure = plot.plot_logs([log([0.001] * 4, "a.log"), log([0.001] * 9, "b.log")])
    assert [text for text, _ in tick_boxes(figure, figure.axes[-1])] == ["0.001"]


@pytest.mark.parametrize(
    "rates",
    [
        [0.1, 0.01, 1e-3, 1e-4, 1e-5],
        [0.1, 0.02],
        [0.1, 0.099, 0.098],
        [0.5 * 0.9999**i for i in range(0, 60000, 500)],
        [float("nan"), 0.01, 1e-9],
        [0.0, 0.0],
    ],
)
def test_tick_labels_do_not_touch(log, rates):
    figure = plot.plot_logs([log(rates)], log_y=True)
    for ax in figure.axes:
        boxes = [box for _, box in tick_boxes(figure, ax)]
        assert 1 <= len(boxes) <= 11
        for below, above in zip(boxes, boxes[1:]):
            assert above.y0 - below.y1 > 2


def test_five_runs_have_colours_of_their_own_and_legends_that_cover_nothing(log):
    paths = [log([0.01 * (i + 1)] * (5 + i), f"{name}/train.log", every=7 * i + 1) for i, name in enumerate("abcde")]
    figure = plot.plot_logs(paths)
    loss, score, rate = figure.axes
    assert len({line.get_color() for line in loss.lines}) == 5
    labels = [text.get_text() for text in score.get_legend().get_texts()]
    assert labels[0] == "a test accuracy (0.5 at the end)" and len(labels) == 5
    assert rate.get_legend() is None
    figure = plot.plot_logs(paths + [log([0.1] * 3, f"{name}/train.log") for name in "fg"])
    figure.canvas.draw()
    for ax in figure.axes[:2]:
        legend, panel = ax.get_legend().get_window_extent(), ax.get_window_extent()
        assert legend.x0 >= panel.x1 and legend.x1 <= figure.bbox.x1


def test_many_runs_have_different_colours():
    assert run_colors(3) == list(COLORS[:3])
    assert len(set(run_colors(30))) == 30


def test_a_watched_log_is_drawn_whenever_it_grows(tmp_path, monkeypatch):
    path = tmp_path / "train.log"
    lines = lines_of([0.1] * 3)
    states = [None, lines[:1], lines[:3], None, lines, [*lines, DONE]]
    drawn, waited = [], []

    def wait(seconds):
        waited.append(seconds)
        state = states.pop(0)
        if state is not None:
            path.write_text("\n".join(state) + "\n")

    monkeypatch.setattr(SLEEP, wait)
    watch([str(path), str(path)], lambda logs: drawn.append((len(logs), path.read_text().count("loss"))))
    assert drawn == [(2, 1), (2, 3), (2, 3)]
    assert states == [] and min(waited) >= 2


def test_watch_replaces_the_picture_and_ends_with_the_training(log, tmp_path, capsys, monkeypatch):
    path, output = log([0.1] * 3), tmp_path / "p.png"
    sizes = []

    def wait(seconds):
        sizes.append(output.stat().st_size)
        with open(path, "a") as file:
            file.write(DONE + "\n")

    monkeypatch.setattr(SLEEP, wait)
    assert main(["plot", path, "--watch", "-o", str(output)]) == 0
    assert len(sizes) == 1 and [p.name for p in tmp_path.iterdir() if p.suffix == ".png"] == ["p.png"]
    assert capsys.readouterr().out.splitlines()[-1] == f"Drew {path} to {output}"


def test_watch_ends_at_an_interrupt(log, tmp_path, monkeypatch):
    def wait(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(SLEEP, wait)
    assert main(["plot", log([0.1] * 3), str(tmp_path / "later.log"), "--watch", "-o", str(tmp_path / "p.svg")]) == 0
    assert (tmp_path / "p.svg").exists()


def test_smoothing_is_unchanged_by_other_runs(log):
    paths = [log([0.1] * 6, "a.log"), log([0.1] * 3, "b.log", every=50)]
    together, alone = plot.plot_logs(paths, smooth=2).axes[0], plot.plot_logs(paths[:1], smooth=2).axes[0]
    np.testing.assert_array_equal(together.lines[0].get_xydata(), alone.lines[0].get_xydata())


def test_numbers_that_are_no_shares_have_a_panel_of_their_own(log):
    """As the lambda of SphereFace's loss, beside which an accuracy would be a flat line."""
    path = log([0.01] * 4)
    with open(path, "a") as file:
        file.write("I1128 10:00:01.000000  1 solver.cpp:218]     Test net output #1: lambda = 500\n")
    figure = plot.plot_logs([path])
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "accuracy", "other outputs", "learning rate"]
    assert [line.get_ydata().tolist() for line in figure.axes[2].lines] == [[500]]
