"""`minicaffe train`: log lines, resuming, fine-tuning, signals."""

import os
import re
import shlex
import signal

import h5py
import numpy as np
import pytest

from minicaffe import TEST, TRAIN, Net, Sharing

PREFIX = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \w+\.py:\d+\] ")


def texts(log: str) -> list[str]:
    """Return the lines of the log without glog's prefix."""
    return [PREFIX.sub("", line, count=1) for line in log.splitlines()]


def weights(path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path) as file:
        for layer, group in file["data"].items():
            found.update((f"{layer}/{i}", item[()]) for i, item in group.items())
    return found


def assert_same_weights(one, other):
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys() and len(a) == 4
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_the_lines_of_the_original(project, run):
    status, _, log = run("train", "--solver", "solver.prototxt")
    assert status == 0
    lines = texts(log)
    for expected in (
        "Use CPU.",
        "Starting Optimization",
        "Solving tiny",
        "Learning Rate Policy: step",
        "Iteration 0, Testing net (#0)",
        "Snapshotting to HDF5 file tiny_iter_5.caffemodel.h5",
        "Snapshotting solver state to HDF5 file tiny_iter_5.solverstate.h5",
        "Iteration 6, lr = 0.0125",
    ):
        assert expected in lines, expected
    assert lines.count("Optimization Done.") == 2
    assert sum(re.fullmatch(r"Iteration \d+ \([\d.e+-]+ iter/s, [\d.e+-]+s/2 iters\), loss = [\d.]+", x) is not None
               for x in lines) == 4  # fmt: skip
    assert sum(re.fullmatch(r"    Test net output #0: accuracy = [\d.]+", line) is not None for line in lines) == 3
    loss = re.compile(r"    T(est|rain) net output #\d: loss = ([\d.]+) \(\* 1 = \2 loss\)")
    assert sum(loss.fullmatch(line) is not None for line in lines) == 3 + 4
    assert 'stage: ""' in "".join(lines) and "level: 0" in "".join(lines)


def test_the_originals_parse_log_finds_its_columns(project, run):
    """The patterns of tools/extra/parse_log.py match, and so does its parsing of times after the line "Solving"."""
    run("train", "--solver", "solver.prototxt", "--log", "x.log")
    run("train", "--solver", "solver.prototxt", "--log", "x.log", "--snapshot", "tiny_iter_5.solverstate.h5")
    lines = (project / "x.log").read_text().splitlines()
    assert "" not in lines  # an empty line would end parse_log
    start = next(i for i, line in enumerate(lines) if "Solving" in line)
    iteration, rows, rates = -1, {"Train": [], "Test": []}, []
    for line in lines[start:]:
        if found := re.search(r"Iteration (\d+)", line):
            iteration = int(found[1])
        if iteration == -1:
            continue
        try:
            month, day, time = int(line.split()[0][1:3]), int(line.split()[0][3:]), line.split()[1]
        except ValueError:  # a line of a prototxt in the log, skipped by parse_log
            assert line.startswith((" ", "}")) or ": " in line or line.endswith("{"), line
            continue
        hours, minutes, rest = time.split(":")
        seconds, microseconds = rest.split(".")
        assert 1 <= month <= 12 and 1 <= day <= 31 and len(microseconds) == 6
        assert int(hours) < 24 and int(minutes) < 60 and int(seconds) < 61
        if found := re.search(r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)", line):
            rates.append(float(found[1]))
        for kind, row in rows.items():
            if found := re.search(kind + r" net output #(\d+): (\S+) = ([\.\deE+-]+)", line):
                row.append((iteration, found[2], float(found[3])))
    assert rates == [0.05, 0.05, 0.025, 0.0125, 0.0125]
    assert [(i, name) for i, name, _ in rows["Train"]] == [(i, "loss") for i in (0, 2, 4, 6, 6)]
    assert [(i, name) for i, name, _ in rows["Test"]] == [(i, n) for i in (0, 4, 8, 8) for n in ("accuracy", "loss")]


def test_our_log_reader_reads_it_as_well(project, run):
    from minicaffe.pictures.parse_log import parse_log

    run("train", "--solver", "solver.prototxt", "--log", "x.log")
    train, test = parse_log(project / "x.log")
    assert [row["NumIters"] for row in train] == [0, 2, 4, 6]
    assert [row["NumIters"] for row in test] == [0, 4, 8]
    assert set(test[0]) == {"NumIters", "Seconds", "LearningRate", "accuracy", "loss"}


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(project, run):
    assert run("train", "--solver", "solver.prototxt")[0] == 0
    os.rename("tiny_iter_8.caffemodel.h5", "whole.caffemodel.h5")
    status, _, log = run("train", "--solver", "solver.prototxt", "--snapshot", "tiny_iter_5.solverstate.h5")
    assert status == 0
    assert "Resuming from tiny_iter_5.solverstate.h5" in texts(log)
    assert_same_weights("whole.caffemodel.h5", "tiny_iter_8.caffemodel.h5")


def test_fine_tuning_starts_from_weights(project, run):
    assert run("train", "--solver", "solver.prototxt")[0] == 0
    text = (project / "solver.prototxt").read_text().replace("base_lr: 0.05", "base_lr: 0").replace("tiny", "tuned")
    (project / "tune.prototxt").write_text(text)
    files = "tiny_iter_5.caffemodel.h5, tiny_iter_5.caffemodel.h5 ,tiny_iter_5.caffemodel.h5"
    status, _, log = run("train", "-solver", "tune.prototxt", "-weights", files)
    assert status == 0
    assert "Finetuning from tiny_iter_5.caffemodel.h5" in texts(log)
    assert_same_weights("tuned_iter_8.caffemodel.h5", "tiny_iter_5.caffemodel.h5")


def test_files_given_to_the_wrong_flag(project, run):
    assert run("train", "--solver", "solver.prototxt")[0] == 0
    for flag, file, what in (
        ("-snapshot", "tiny_iter_5.caffemodel.h5", "holds weights, not a solver state"),
        ("-weights", "tiny_iter_5.solverstate.h5", "is a solver state, not weights"),
    ):
        status, _, log = run("train", "-solver", "solver.prototxt", flag, file)
        assert status == 1 and f"minicaffe: '{file}' {what}" in log


def test_a_net_is_found_beside_its_solver(project, run, monkeypatch):
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")
    assert run("train", "--solver", "../solver.prototxt")[0] == 0
    assert os.path.exists("tiny_iter_8.caffemodel.h5")


def test_stages_and_levels_choose_layers(project, run):
    extra = 'layer { name: "extra" type: "Silence" bottom: "ip" include { stage: "loud" min_level: 2 } }'
    (project / "net.prototxt").write_text((project / "net.prototxt").read_text() + extra)
    assert "Creating Layer extra" not in run("time", "-model", "net.prototxt", "-iterations", 1)[2]
    assert "Creating Layer extra" not in run("time", "-model", "net.prototxt", "-stage", "loud", "-iterations", 1)[2]
    loud = ("-stage", "quiet,loud", "-level", 3)
    assert "Creating Layer extra" in run("time", "-model", "net.prototxt", "-iterations", 1, *loud)[2]
    assert "Creating Layer extra" in run("train", "-solver", "solver.prototxt", *loud)[2]


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def send_at(monkeypatch):
    """Send this process a signal after the given iteration."""
    from minicaffe.core.engine import Step

    def arrange(iteration: int, number: signal.Signals) -> None:
        gradients = Step.gradients

        def and_send(step):
            loss = gradients(step)
            if step.solver.iter == iteration:
                os.kill(os.getpid(), number)
            return loss

        monkeypatch.setattr(Step, "gradients", and_send)

    return arrange


def test_ctrl_c_stops_after_a_snapshot_from_which_training_goes_on(project, run, send_at):
    assert run("train", "--solver", "solver.prototxt")[0] == 0
    os.rename("tiny_iter_8.caffemodel.h5", "whole.caffemodel.h5")
    before = signal.getsignal(signal.SIGINT)
    send_at(2, signal.SIGINT)
    status, _, log = run("train", "--solver", "solver.prototxt")
    assert status == 0
    assert "Optimization stopped early." in texts(log)
    assert "Snapshotting to HDF5 file tiny_iter_3.caffemodel.h5" in texts(log)
    assert signal.getsignal(signal.SIGINT) is before
    assert run("train", "--solver", "solver.prototxt", "--snapshot", "tiny_iter_3.solverstate.h5")[0] == 0
    assert_same_weights("whole.caffemodel.h5", "tiny_iter_8.caffemodel.h5")


def test_sighup_snapshots_and_goes_on(project, run, send_at):
    send_at(1, signal.SIGHUP)
    status, _, log = run("train", "--solver", "solver.prototxt")
    assert status == 0
    assert os.path.exists("tiny_iter_2.solverstate.h5")
    assert texts(log).count("Optimization Done.") == 2


@pytest.mark.parametrize(
    "effect, files, stops",
    [("snapshot", ["tiny_iter_2.caffemodel.h5"], False), ("none", [], False), ("stop", [], True)],
)
def test_effects_can_be_chosen(project, run, send_at, effect, files, stops):
    send_at(1, signal.SIGHUP)
    log = run("train", "--solver", "solver.prototxt", "--sighup_effect", effect)[2]
    assert all(os.path.exists(path) for path in files)
    assert ("Optimization stopped early." in texts(log)) == stops


# -- resuming by itself ------------------------------------------------------------------------------------------------


def test_auto_starts_and_resumes(project, run, send_at):
    auto = ("train", "--solver", "solver.prototxt", "--snapshot", "auto")
    status, _, log = run(*auto)
    assert status == 0 and "There is no whole snapshot of 'tiny': training starts" in texts(log)
    os.rename("tiny_iter_8.caffemodel.h5", "whole.caffemodel.h5")
    (project / "tiny_iter_8.runstate").write_text("damaged")
    status, _, log = run(*auto)
    assert status == 0 and "Resuming from tiny_iter_5.solverstate.h5" in texts(log)
    assert sum(" is not whole: " in line for line in texts(log)) == 1
    assert_same_weights("whole.caffemodel.h5", "tiny_iter_8.caffemodel.h5")


def test_auto_takes_weights_only_to_start(project, run):
    assert run("train", "--solver", "solver.prototxt")[0] == 0
    os.rename("tiny_iter_8.caffemodel.h5", "whole.caffemodel.h5")
    words = ("train", "--solver", "solver.prototxt", "--snapshot", "auto", "--weights", "whole.caffemodel.h5")
    log = texts(run(*words)[2])
    assert "Resuming from tiny_iter_5.solverstate.h5" in log and "Finetuning from whole.caffemodel.h5" not in log
    assert_same_weights("whole.caffemodel.h5", "tiny_iter_8.caffemodel.h5")
    for path in project.glob("tiny_iter_*"):
        path.unlink()
    assert "Finetuning from whole.caffemodel.h5" in texts(run(*words)[2])


def last_words(out):
    """The words after `train` of the command in the last line of an output."""
    words = shlex.split(out.splitlines()[-1])
    assert words[:4] == ["python", "-m", "minicaffe", "train"]
    return words[3:]


def test_the_last_line_of_an_unfinished_run_resumes_it(project, run, send_at, monkeypatch):
    folder = project / "it's here"
    folder.mkdir()
    for name in ("net.prototxt", "solver.prototxt"):
        (project / name).rename(folder / name)
    monkeypatch.chdir(project)
    flags = ("--solver", folder / "solver.prototxt", "--keep", 4, "--threads=1", "--best", "accuracy")
    _, out, _ = run("train", *flags)
    assert out == ""
    os.rename("tiny_iter_8.caffemodel.h5", "whole.caffemodel.h5")
    send_at(2, signal.SIGINT)
    status, out, _ = run("train", *flags)
    assert status == 0
    assert last_words(out) == ["train", "--solver", str(folder / "solver.prototxt"),
                               "--snapshot", "tiny_iter_3.solverstate.h5", "--keep", "4", "--best", "accuracy",
                               "--threads", "1"]  # fmt: skip
    assert run(*last_words(out))[:2] == (0, "")
    assert_same_weights("whole.caffemodel.h5", "tiny_iter_8.caffemodel.h5")


def test_the_command_that_resumes_has_no_weights_but_keeps_auto(project, run, send_at):
    assert run("train", "--solver", "solver.prototxt")[0] == 0
    os.rename("tiny_iter_8.caffemodel.h5", "w.caffemodel.h5")
    for path in project.glob("tiny_iter_*"):
        path.unlink()
    send_at(2, signal.SIGINT)
    flags = ["train", "--solver", "solver.prototxt"]
    _, out, _ = run(*flags, "--weights", "w.caffemodel.h5")
    assert last_words(out) == [*flags, "--snapshot", "tiny_iter_3.solverstate.h5"]
    (project / "tiny_iter_3.solverstate.h5").unlink()
    _, out, _ = run(*flags, "--snapshot", "auto", "--weights", "w.caffemodel.h5")
    assert last_words(out) == [*flags, "--snapshot", "auto", "--weights", "w.caffemodel.h5"]


def test_a_run_whose_last_snapshot_fails_resumes_from_the_one_before(project, run):
    (project / "tiny_iter_8.runstate").mkdir()
    status, out, err = run("train", "--solver", "solver.prototxt")
    assert status == 1 and "cannot write 'tiny_iter_8.runstate'" in err
    assert last_words(out) == ["train", "--solver", "solver.prototxt", "--snapshot", "tiny_iter_5.solverstate.h5"]


def test_keep_best_and_patience(project, run):
    words = ("train", "--solver", "solver.prototxt", "--keep", 1, "--best", "accuracy:smaller", "--patience", 1)
    text = (project / "solver.prototxt").read_text().replace("base_lr: 0.05", "base_lr: 0")
    (project / "solver.prototxt").write_text(text.replace("test_iter: 2", "test_iter: 1"))
    net = (project / "net.prototxt").read_text().replace('type: "gaussian" std: 1', 'type: "constant" value: 1')
    (project / "net.prototxt").write_text(net.replace('type: "uniform" min: 0 max: 2.99', 'type: "constant" value: 1'))
    status, out, log = run(*words)
    assert status == 0 and any(line.startswith("Stopping: no better accuracy in 1 test;") for line in texts(log))
    assert "--snapshot tiny_iter_4.solverstate.h5" in out.splitlines()[-1] and "--patience 1" in out
    assert sorted(path.name for path in project.glob("tiny*")) == [
        "tiny_best.caffemodel.h5", "tiny_iter_4.caffemodel.h5", "tiny_iter_4.runstate", "tiny_iter_4.solverstate.h5"
    ]  # fmt: skip


def test_a_loss_that_is_nan(project, run):
    text = (project / "solver.prototxt").read_text().replace("base_lr: 0.05", "base_lr: 1e30")
    (project / "solver.prototxt").write_text(text.replace("snapshot: 5", "snapshot: 1"))
    status, _, log = run("train", "--solver", "solver.prototxt")
    assert status == 0 and len(re.findall(r"^W.*\] the loss of iteration 1 is \w+: ", log, re.MULTILINE)) == 1
    for name in os.listdir(project):
        if "_iter_" in name:
            os.unlink(name)
    status, _, log = run("train", "--solver", "solver.prototxt", "--stop-on-nan")
    assert status == 1 and log.splitlines()[-1].startswith("minicaffe: the loss of iteration 1 is ")
    assert {name.split("_iter_")[1].split(".")[0] for name in os.listdir(project) if "_iter_" in name} == {"1"}


# -- further outputs ---------------------------------------------------------------------------------------------------


def test_errors_are_written_to_the_log_file_too(project, run):
    (project / "solver.prototxt").write_text((project / "solver.prototxt").read_text().replace("step", "stepp", 1))
    assert run("train", "--solver", "solver.prototxt", "--log", "x.log")[0] == 1
    last = (project / "x.log").read_text().splitlines()[-1]
    assert last.startswith("F") and "stepp" in last


@pytest.fixture
def gpus(project, monkeypatch):
    """Set solver_mode: GPU in the solver; return a function that sets how many GPUs the machine has, none usable."""
    from minicaffe.cuda import context
    from minicaffe.errors import DeviceError

    def unusable(index):
        raise DeviceError("GPU 0 is busy")

    def set_count(count):
        monkeypatch.setattr(context, "device_count", lambda: count)
        monkeypatch.setattr(context, "require", unusable)
        monkeypatch.setattr(context, "reason_unavailable", lambda: "there is none")

    (project / "solver.prototxt").write_text((project / "solver.prototxt").read_text() + "solver_mode: GPU")
    return set_count


def test_solver_mode_gpu_without_a_gpu_trains_on_the_cpu_with_a_warning(gpus, run):
    gpus(0)
    status, out, err = run("train", "--solver", "solver.prototxt")
    assert status == 0 and "Optimization Done" in err
    (line,) = [line for line in err.splitlines() if "NO GPU" in line]
    assert line.startswith("W") and line.endswith("; there is none") and "-gpu none" in line
    assert err.index("NO GPU") < err.index("Use CPU.")
    status, _, err = run("train", "--solver", "solver.prototxt", "-gpu", "none")
    assert status == 0 and "NO GPU" not in err


def test_a_gpu_that_exists_or_is_requested_is_not_replaced(gpus, run):
    gpus(1)
    status, _, err = run("train", "--solver", "solver.prototxt")
    assert status == 1 and "GPU 0 is busy" in err and "-gpu none trains on the CPU" in err
    gpus(0)
    status, _, err = run("train", "--solver", "solver.prototxt", "-gpu", "0")
    assert status == 1 and "NO GPU" not in err


def test_tensorboard_files_hold_the_scalars(project, run):
    assert run("train", "--solver", "solver.prototxt", "--tensorboard", "events")[0] == 0
    (name,) = os.listdir("events")
    assert name.startswith("events.out.tfevents.")
    found = list(read_events((project / "events" / name).read_bytes()))
    assert found[0] == (0, "brain.Event:2")
    tags = {(step, tag) for step, scalars in found[1:] for tag in scalars}
    assert {(0, "train/loss"), (6, "train/learning_rate"), (8, "test/accuracy"), (4, "test/loss")} <= tags
    rates = {step: scalars["train/learning_rate"] for step, scalars in found[1:] if "train/learning_rate" in scalars}
    assert rates == pytest.approx({0: 0.05, 2: 0.05, 4: 0.025, 6: 0.0125})


def read_events(data: bytes):
    """Read (step, scalars) of each record; checksums are verified by the bitwise definition of CRC-32C."""
    import struct

    from google.protobuf.internal.decoder import _DecodeVarint

    def fields(message):
        at = 0
        while at < len(message):
            key, at = _DecodeVarint(message, at)
            kind = key & 7
            if kind == 0:
                value, at = _DecodeVarint(message, at)
            else:
                size = {1: 8, 5: 4}.get(kind)
                if size is None:
                    size, at = _DecodeVarint(message, at)
                value, at = message[at : at + size], at + size
            yield key >> 3, value

    def crc(content):
        value = 0xFFFFFFFF
        for byte in content:
            value ^= byte
            for _ in range(8):
                value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        value ^= 0xFFFFFFFF
        return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF

    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = data[at + 12 : at + 12 + length]
        assert struct.unpack_from("<I", data, at + 8)[0] == crc(data[at : at + 8])
        assert struct.unpack_from("<I", data, at + 12 + length)[0] == crc(event)
        at += 16 + length
        known = dict(fields(event))
        if 3 in known:
            yield known[2], known[3].decode()
            continue
        values = [dict(fields(value)) for _, value in fields(known[5])]
        yield known[2], {value[1].decode(): struct.unpack("<f", value[2])[0] for value in values}


def test_blobs_of_its_nets_share_buffers(project, run, monkeypatch):
    seen = set()
    monkeypatch.setattr(Net, "share_memory", lambda net, sharing: seen.add((net.phase, sharing)))
    assert run("train", "--solver", "solver.prototxt")[0] == 0
    assert {(TRAIN, Sharing.FORGET), (TEST, Sharing.FORGET)} <= seen
