"""Parsing of logs: the tables of parse_log, seconds, curves, and their plots."""

import math
import os
import re
import time

import numpy as np
import pytest
from PIL import Image

from minicaffe.errors import DataError, UsageError
from minicaffe.pictures import parse_log as logs
from minicaffe.pictures import plot
from minicaffe.pictures.runs import run_labels


def stamped(*lines, start=0, month=8, day=4):
    """Return the lines of a log, with stamps one second apart."""
    prefix = f"I{month:02d}{day:02d} 10:"
    return [
        f"{prefix}{(start + i) // 60:02d}:{(start + i) % 60:02d}.250000  8318 solver.cpp:218] {line}"
        for i, line in enumerate(lines)
    ]


NEW = stamped(
    "Using GPUs 0",
    "Solving LeNet",
    "Iteration 0, Testing net (#0)",
    "    Test net output #0: accuracy = 0.1",
    "    Test net output #1: loss = 2.3 (* 1 = 2.3 loss)",
    "Iteration 0 (-1.4e-45 iter/s, 0.5s/100 iters), loss = 2.31",
    "    Train net output #0: loss = 2.32 (* 1 = 2.32 loss)",
    "Iteration 0, lr = 0.01",
    "Iteration 100 (29.1715 iter/s, 3.428s/100 iters), loss = 1e-05",
    "    Train net output #0: loss = nan (* 1 = nan loss)",
    "Iteration 100, lr = 0.0099",
    "Snapshotting to HDF5 file m_iter_100.caffemodel.h5",
    "Iteration 100, loss = 0.4",
    "Iteration 100, Testing net (#0)",
    "    Test net output #0: accuracy = 0.97",
    "    Test net output #1: loss = 0.08 (* 1 = 0.08 loss)",
    "Optimization Done.",
)

OLD = [
    line.replace(" (29.1715 iter/s, 3.428s/100 iters)", "").replace(" (-1.4e-45 iter/s, 0.5s/100 iters)", "")
    for line in NEW
]


@pytest.fixture
def log_file(tmp_path):
    def write(lines, name="train.log"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.mark.parametrize("lines", [NEW, OLD], ids=["new", "old"])
def test_parse_log(log_file, lines):
    train, test = logs.parse_log(log_file(lines))
    assert test == [
        {"NumIters": 0, "Seconds": 2, "LearningRate": 0.0099, "accuracy": 0.1, "loss": 2.3},
        {"NumIters": 100, "Seconds": 13, "LearningRate": 0.0099, "accuracy": 0.97, "loss": 0.08},
    ]
    assert [row["NumIters"] for row in train] == [0, 100]
    assert train[0]["loss"] == 2.32 and math.isnan(train[1]["loss"]) and train[1]["LearningRate"] == 0.01


def test_several_test_nets_give_several_rows(log_file):
    path = log_file(
        stamped(
            "Solving x",
            "Iteration 0, Testing net (#0)",
            "    Test net output #0: loss = 1",
            "Iteration 0, Testing net (#1)",
            "    Test net output #0: loss = 2",
        )
    )
    assert [row["loss"] for row in logs.parse_log(path)[1]] == [1, 2]
    assert [(c.name, c.values) for c in logs.read_curves(path)] == [("loss", [1]), ("loss (#1)", [2])]


def three_numbers(last, iteration=0, name="accuracy"):
    """Lines of a test whose output has three numbers, as SegAccuracy's, before a loss."""
    values = [0.9, 0.6, last]
    lines = [f"    Test net output #{i}: {name} = {value}" for i, value in enumerate(values)]
    return [f"Iteration {iteration}, Testing net (#0)", *lines, "    Test net output #3: loss = 1 (* 1 = 1 loss)"]


def test_each_number_of_an_output_is_a_curve(log_file, tmp_path):
    path = log_file(stamped("Solving x", *three_numbers(0.3), *three_numbers(0.4, iteration=100)))
    curves = {curve.name: (curve.iterations, curve.values) for curve in logs.read_curves(path)}
    assert curves == {
        "accuracy[0]": ([0, 100], [0.9, 0.9]),
        "accuracy[1]": ([0, 100], [0.6, 0.6]),
        "accuracy[2]": ([0, 100], [0.3, 0.4]),
        "loss": ([0, 100], [1, 1]),
    }
    rows = logs.parse_log(path)[1]
    assert [row["accuracy[2]"] for row in rows] == [0.3, 0.4] and "accuracy" not in rows[0]
    assert list(rows[0])[3:] == ["accuracy[0]", "accuracy[1]", "accuracy[2]", "loss"]
    plot.plot_chart(0, tmp_path / "chart.png", [path])  # Test accuracy vs. Iters
    assert (tmp_path / "chart.png").stat().st_size > 1000


def test_numbers_of_the_outputs_of_several_test_nets(log_file):
    second = [line.replace("(#0)", "(#1)") for line in three_numbers(0.5)]
    path = log_file(stamped("Solving x", *three_numbers(0.3), *second))
    values = {curve.name: curve.values for curve in logs.read_curves(path)}
    assert values["accuracy[2]"] == [0.3] and values["accuracy[2] (#1)"] == [0.5]
    assert values["accuracy[0] (#1)"] == [0.9] and values["loss (#1)"] == [1]
    assert [row["accuracy[2]"] for row in logs.parse_log(path)[1]] == [0.3, 0.5]


def test_an_output_of_very_many_numbers_has_no_curve(log_file):
    many = [f"    Train net output #{i}: prob = 0.1" for i in range(300)]
    path = log_file(stamped("Solving x", "Iteration 0, loss = 2", *many, "Iteration 0, lr = 0.1"))
    assert [curve.name for curve in logs.read_curves(path)] == ["average loss", "learning rate"]


def test_csv_files(log_file, tmp_path, capsys):
    path = log_file(NEW)
    train, test = logs.parse_log(path)
    logs.save_csv_files(path, tmp_path, train, test, delimiter=";", verbose=True)
    assert (tmp_path / "train.log.test").read_text().splitlines()[:2] == [
        "NumIters;Seconds;LearningRate;accuracy;loss",
        "0.0;2.0;0.0099;0.1;2.3",
    ]
    assert len((tmp_path / "train.log.train").read_text().splitlines()) == 3
    assert capsys.readouterr().out.count("Wrote ") == 2
    logs.write_csv(tmp_path / "none", [], verbose=True)
    assert "no lines to write" in capsys.readouterr().out and not (tmp_path / "none").exists()


def test_extract_seconds(log_file, tmp_path):
    logs.extract_seconds(log_file(NEW), tmp_path / "seconds")
    assert (tmp_path / "seconds").read_text().split()[:3] == ["1.000000", "4.000000", "6.000000"]
    with pytest.raises(DataError, match="Solving"):
        logs.extract_seconds(log_file(NEW[2:]), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_new_years_eve(log_file):
    path = log_file(
        stamped("Solving x", "Iteration 0, loss = 1", month=12, day=31)
        + stamped("Iteration 1, loss = 2", month=1, day=1)
    )
    assert logs.read_curves(path)[0].seconds == [1, 86400 * 1]


def test_leap_day_needs_the_year_of_the_file(log_file):
    path = log_file(stamped("Solving x", "Iteration 0, loss = 1", month=2, day=29))
    os.utime(path, (time.time(), time.mktime((2020, 3, 1, 0, 0, 0, 0, 0, -1))))
    assert logs.read_curves(path)[0].seconds == [1]


def test_lines_without_stamps(log_file):
    (curve,) = logs.read_curves(log_file(["Iteration 5, loss = 3"]))
    assert curve.values == [3] and math.isnan(curve.seconds[0])
    with pytest.raises(DataError, match="expected a log line such as .*, got 'nothing'"):
        logs.extract_datetime_from_line("nothing", 2026)


def test_curves_and_kinds(log_file):
    curves = {(c.of, c.name): c for c in logs.read_curves(log_file(NEW))}
    assert {key: c.kind for key, c in curves.items()} == {
        ("Test", "accuracy"): "score",
        ("Test", "loss"): "loss",
        ("Train", "loss"): "loss",
        ("Train", "average loss"): "loss",
        ("Train", "learning rate"): "rate",
    }
    assert curves["Train", "average loss"].values == [2.31, 1e-5, 0.4]
    assert curves["Train", "learning rate"].iterations == [0, 100]


def test_lines_of_forks(log_file):
    """NVIDIA's logs: epochs between speed and loss, seconds instead of a speed, further values after the rate."""
    path = log_file(
        stamped(
            "Solving x",
            "Iteration 0 (0.35 s), loss = 7",
            "Iteration 0, lr = 0.1, m = 0.9, lrm = 0.5, wd = 0.0005, gs = 1",
            "Iteration 100 (2.5 iter/s, 4s/100 iters), 0.4/10ep, loss = 6.5",
            "    Train net output #0: loss = 6.25 (* 1 = 6.25 loss)",
            "Iteration 100, lr = 0.01, m = 0.9, lrm = 0.5, wd = 0.0005, gs = 1",
            "Iteration 100, 0.4/10ep, Testing net (#0)",
            "    Test net output #0: accuracy = 0.5",
        )
    )
    curves = {c.name: (c.iterations, c.values) for c in logs.read_curves(path)}
    assert curves == {
        "average loss": ([0, 100], [7, 6.5]),
        "loss": ([100], [6.25]),
        "learning rate": ([0, 100], [0.1, 0.01]),
        "accuracy": ([100], [0.5]),
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("-1.#IND", math.nan), ("1.#QNAN", math.nan), ("-1.#IND00", math.nan), ("-nan(ind)", math.nan), ("-nan", math.nan),
     ("NaN", math.nan), ("1.#INF", math.inf), ("-1.#INF", -math.inf), ("-inf", -math.inf), ("Infinity", math.inf),
     ("1e+10", 1e10), ("1.5", 1.5)],
)  # fmt: skip
def test_numbers_as_every_c_library_prints_them(log_file, text, value):
    path = log_file(
        stamped(
            "Solving x",
            "Iteration 0, loss = 2",
            "    Train net output #0: loss = 2 (* 1 = 2 loss)",
            "Iteration 0, lr = 0.1",
            f"Iteration 10 (2 iter/s, 5s/10 iters), loss = {text}",
            f"    Train net output #0: loss = {text} (* 1 = {text} loss)",
            f"Iteration 10, lr = {text}",
            f"    Test net output #0: accuracy = {text}",
        )
    )
    train, test = logs.parse_log(path)
    np.testing.assert_equal([train[1]["loss"], test[0]["accuracy"]], [value] * 2)
    for curve in logs.read_curves(path):
        np.testing.assert_equal(curve.values[-1], value)
        assert (curve.kind == "loss") == ("loss" in curve.name)


def test_a_resumed_run_replaces_what_it_repeats(log_file):
    path = log_file(
        stamped(
            *[f"Iteration {i}, loss = {i}" for i in (0, 100, 200, 300)],
            *[f"Iteration {i}, loss = {i + 1}" for i in (200, 300, 400)],
        )
    )
    (curve,) = logs.read_curves(path)
    assert curve.iterations == [0, 100, 200, 300, 400] and curve.values == [0, 100, 201, 301, 401]


def test_a_resumed_run_without_an_output_that_it_replaces(log_file):
    path = log_file(
        stamped("Iteration 5, Testing net (#0)", "Test net output #0: accuracy = 1", "Iteration 2, loss = 3")
    )
    assert [curve.name for curve in logs.read_curves(path)] == ["average loss"]


def test_errors(log_file, tmp_path):
    with pytest.raises(DataError, match="cannot read the log .*none.log"):
        logs.parse_log(tmp_path / "none.log")
    with pytest.raises(DataError, match="no line reports the loss"):
        logs.read_curves(log_file(["Solving nothing"]))


@pytest.mark.parametrize("line", [
    "Iteration 1, loss = " + "1" * 1_000_000,
    "Train net output #0: " * 15000,
    "Iteration 1 " * 20000,
    "Iteration " + "1" * 200_000,
    "Iteration 1" + " " * 200_000,
    "Train net output #0: " + "= " * 100_000,
])  # fmt: skip
def test_long_lines_take_linear_time(log_file, line):
    path = log_file([*NEW, *[line] * 5])
    found = str(logs.parse_log(path)), len(logs.read_curves(path))
    assert found == (str(logs.parse_log(log_file(NEW))), len(logs.read_curves(log_file(NEW))))


def test_dates_that_do_not_exist(log_file):
    december = "I1231 10:00:00.0 1 x.cpp:1] Solving x"
    for stamp in ("I0229 10:00:00.0", "I0001 10:00:00.0", "I0101 25:00:00.0"):
        with pytest.raises(DataError, match="expected a log line such as"):
            logs.parse_log(log_file([december, f"{stamp} 1 x.cpp:1] Iteration 1, loss = 1"], name="2024.log"))
    years = [f"I{month}01 10:00:00.0 1 x.cpp:1] Iteration 1, loss = 1" for month in ("12", "01")] * 8000
    with pytest.raises(DataError, match="expected a log line such as"):
        logs.parse_log(log_file(years))


def test_logs_of_many_outputs(log_file, tmp_path):
    lines = [line for i in range(2100) for line in (f"Iteration {i}", f"Train net output #0: a{i} = 1")]
    path = log_file(lines)
    with pytest.raises(DataError, match="2100 rows of 2103 outputs are too large for a table"):
        logs.parse_log(path)
    with pytest.raises(DataError, match="expected at most 100 curves of one kind, got 2100 of kind score"):
        plot.plot_logs([path])


def test_a_fifo_and_a_pipe_as_log(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DataError, match="cannot read the log .*fifo.: it is a FIFO"):
        logs.parse_log(tmp_path / "fifo")
    reading, writing = os.pipe()
    os.write(writing, "\n".join(OLD).encode())
    os.close(writing)
    assert logs.parse_log(f"/dev/fd/{reading}")[0]
    os.close(reading)


# -- plots -------------------------------------------------------------------------------------------------------------


def picture_size(path):
    with Image.open(path) as picture:
        return picture.size


def test_plot_logs(log_file, tmp_path):
    paths = [log_file(NEW, "a.log"), log_file(OLD, "b.log")]
    figure = plot.plot_logs(paths, smooth=2)
    loss, score, rate = figure.axes
    assert (loss.get_ylabel(), score.get_ylabel(), rate.get_ylabel()) == ("loss", "accuracy", "learning rate")
    labels = [line.get_label() for line in score.lines]
    assert labels == ["a test accuracy (0.97 at the end)", "b test accuracy (0.97 at the end)"]
    np.testing.assert_array_equal(score.lines[0].get_xydata(), [[0, 0.1], [100, 0.97]])
    for name in ("p.png", "p.svg"):
        plot.save(figure, tmp_path / name)
    assert picture_size(tmp_path / "p.png")[0] == 1350
    seconds = plot.plot_logs(paths[:1], x="seconds", log_y=True)
    assert seconds.axes[0].get_yscale() == "log" and seconds.axes[-1].get_xlabel() == "seconds"
    with pytest.raises(UsageError, match="format"):
        plot.save(figure, tmp_path / "p.doc")
    with pytest.raises(UsageError, match="iterations or seconds, got 'hours'"):
        plot.plot_logs(paths, x="hours")


def test_a_run_that_diverged_is_drawn(log_file, tmp_path):
    lines = ["Solving x"]
    for i, value in enumerate(["1", "nan", "-1.#IND", "1.#INF", "1", "-inf"]):
        lines += [f"Iteration {i}, loss = {value}", f"Iteration {i}, lr = {value}"]
        lines += [f"    {of} net output #0: loss = {value} (* 1 = {value} loss)" for of in ("Train", "Test")]
    path = log_file(stamped(*lines))
    plot.save(plot.plot_logs([path], smooth=2, log_y=True), tmp_path / "p.svg")
    plot.plot_chart(6, tmp_path / "c.svg", [path])


@pytest.mark.parametrize("values", [["1e308", "-1e308"], ["5e-324", "3e38"], ["1e400", "1"], ["-3.4e38", "3.4e38"]])
def test_numbers_at_the_ends_of_their_range_are_drawn(log_file, tmp_path, values):
    lines = [
        line for i, v in enumerate(values) for line in (f"Iteration {i * 10**17}, loss = {v}", f"Iteration 1, lr = {v}")
    ]
    plot.save(plot.plot_logs([log_file(stamped("Solving x", *lines))], smooth=10**30), tmp_path / "p.svg")


def test_moving_average():
    np.testing.assert_allclose(plot.moving_average([1, 2, 3, 4], 2), [1, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(plot.moving_average([1, 2], 5), [1, 1.5])
    nan, inf = math.nan, math.inf
    np.testing.assert_allclose(plot.moving_average([1, nan, 3, 5, inf, 6, 8], 2), [1, nan, nan, 4, nan, nan, 7])


def test_run_labels_tell_runs_apart():
    assert run_labels(["x/a.log", "x/b.log"]) == ["a", "b"]
    assert run_labels(["x/a.log", "y/a.log"]) == ["x", "y"]
    assert run_labels(["x/a.log", "y/a.log", "y/b.log"]) == ["x/a", "y/a", "y/b"]
    assert run_labels(["r/a/logs/t.log", "r/b/logs/t.log"]) == ["a", "b"]
    assert run_labels(["r/t.log", "r/b/t.log"]) == ["r", "r/b"]
    assert run_labels(["x/a.log", "x/a.log"]) == ["a", "a"]


def test_chart_types(log_file, tmp_path):
    types = plot.get_supported_chart_types()
    assert len(types) == 8 and types[0] == "Test accuracy  vs. Iters" and types[7] == "Train loss  vs. Seconds"
    path = log_file(NEW)
    for chart in range(8):
        plot.plot_chart(chart, tmp_path / f"{chart}.png", [path])
        assert picture_size(tmp_path / f"{chart}.png") == (1050, 750)
    with pytest.raises(UsageError, match="8 is not a valid chart type"):
        plot.plot_chart(8, tmp_path / "8.png", [path])
    with pytest.raises(UsageError, match="no test net output is called accuracy"):
        plot.plot_chart(0, tmp_path / "9.png", [log_file(NEW[:3], "short.log")])


def test_plot_confusion(tmp_path):
    matrix = np.array([[8, 2, 0], [1, 4, 5], [0, 0, 0]])
    plot.plot_confusion(matrix, ["cat", "dog", "owl"], tmp_path / "c.svg")
    text = (tmp_path / "c.svg").read_text()
    assert "60.00% of 20 right" in text and "cat  80%" in text
    plot.plot_confusion(np.eye(40), None, tmp_path / "many.png")
    with pytest.raises(UsageError, match="3 labels|2 labels"):
        plot.plot_confusion(matrix, ["cat", "dog"], tmp_path / "no.png")


# -- minicaffe's logs --------------------------------------------------------------------------------------------------

NET = """layer { type: 'DummyData' name: 'data' top: 'data' top: 'label' dummy_data_param { shape { dim: 5 dim: 6 }
           shape { dim: 5 } data_filler { type: 'gaussian' } data_filler { type: 'constant' } } }
         layer { type: 'InnerProduct' name: 'ip' bottom: 'data' top: 'ip' inner_product_param { num_output: 3 } }
         layer { type: 'Accuracy' name: 'accuracy' bottom: 'ip' bottom: 'label' top: 'accuracy'
                 include { phase: TEST } }
         layer { type: 'SoftmaxWithLoss' name: 'loss' bottom: 'ip' bottom: 'label' top: 'loss' }"""


def test_our_log_has_the_form_that_parsers_expect(tmp_path):
    """What the original's parse_log.py searches for: "Solving" with a stamp, and from the first iteration on only lines
    that begin with a stamp, with outputs and rates in words of their own."""
    from minicaffe.cli import main

    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(
        f"net: '{tmp_path}/net.prototxt' test_iter: 2 test_interval: 10 base_lr: 0.01 lr_policy: 'fixed' display: 5 "
        f"max_iter: 20 snapshot_prefix: '{tmp_path}/model'"
    )
    path = tmp_path / "train.log"
    assert main(["train", "--solver", str(tmp_path / "solver.prototxt"), "--log", str(path)]) == 0
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if re.search(r"Iteration \d+", line))
    assert any(
        "Solving" in line and re.match(r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \S+:\d+\] ", line) for line in lines[:first]
    )
    assert [line for line in lines[first:] if not re.match(r"[IWE]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ ", line)] == []
    output = re.compile(r"(T\w+) net output #(\d+): (\S+) = ([.\deE+-]+)")
    outputs = [m.groups() for line in lines if (m := output.search(line))]
    assert len(outputs) == 4 + 3 * 2 and {o[:3] for o in outputs} == {
        ("Train", "0", "loss"),
        ("Test", "0", "accuracy"),
        ("Test", "1", "loss"),
    }
    assert len([line for line in lines if re.search(r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)", line)]) == 4
    train, test = logs.parse_log(path)
    assert [row["NumIters"] for row in train] == [0, 5, 10, 15] and [row["NumIters"] for row in test] == [0, 10, 20]
    assert all(row["Seconds"] >= 0 and row["LearningRate"] == 0.01 for row in train)
