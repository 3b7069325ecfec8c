"""Outputs that cannot be written: a run goes on, and its status is 1; other commands end in one sentence."""

import errno
import os
import subprocess
import sys

import pytest

from minicaffe.cli import outputs

FULL = "/dev/full"
needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason=f"there is no {FULL}")


def shell(text: str) -> tuple[str, str]:
    """Run a line of sh, in which $M is the command; returns (standard output, standard error)."""
    line = f"M='{sys.executable} -m minicaffe'; {text}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    return done.stdout, done.stderr


# -- training ----------------------------------------------------------------------------------------------------------


def test_a_reader_of_the_log_that_ends_does_not_end_the_training(project):
    shell("{ $M train --solver solver.prototxt --log x.log; echo $? > status; } 2>&1 | head -1")
    log = (project / "x.log").read_text()
    assert os.path.exists("tiny_iter_8.caffemodel.h5") and "Optimization Done." in log
    assert (project / "status").read_text() == "1\n"
    assert "cannot write to standard error: Broken pipe; the run goes on" in log
    assert log.splitlines()[-1].endswith("cannot write to standard error: Broken pipe")
    assert log.splitlines()[-1].startswith("F")


def test_a_closed_standard_error_is_no_failure(project):
    out, _ = shell("$M train --solver solver.prototxt 2>&-; echo $?")
    assert out == "0\n" and os.path.exists("tiny_iter_8.caffemodel.h5")


@needs_full
@pytest.mark.parametrize(
    "words, named", [("--log /dev/full", "the log '/dev/full'"), ("2>/dev/full --log x.log", "to standard error")]
)
def test_a_full_disk_does_not_end_the_training(project, words, named):
    out, err = shell(f"$M train --solver solver.prototxt {words}; echo $?")
    shown = err or (project / "x.log").read_text()
    assert out == "1\n" and os.path.exists("tiny_iter_8.caffemodel.h5")
    assert shown.count(f"cannot write {named}: No space left on device; the run goes on\n") == 1
    assert shown.splitlines()[-1].endswith(f"cannot write {named}: No space left on device")
    assert "Traceback" not in shown


def test_events_are_whole_or_missing(project, run, monkeypatch):
    """The third record of the event file does not fit on the disk; the others do."""
    sizes = []

    class Filling(outputs.AppendedFile):
        def _append(self, record):
            sizes.append(len(record))
            self.broken = len(sizes) == 3
            super()._append(record)

        def __init__(self, path, name):
            super().__init__(path, name)
            raw, self.broken = self._file, False
            self._file = _FullOnce(raw, self)

    monkeypatch.setattr("minicaffe.cli.tensorboard.AppendedFile", Filling)
    status, _, err = run("train", "--solver", "solver.prototxt", "--tensorboard", "events")
    (name,) = os.listdir("events")
    assert status == 1 and err.splitlines()[-1].startswith(f"minicaffe: cannot write the events 'events/{name}': ")
    assert (project / "events" / name).stat().st_size == sum(sizes) - sizes[2] and len(sizes) > 4


class _FullOnce:
    """A file that takes half of a record and then none while `owner.broken`."""

    def __init__(self, file, owner):
        self._file, self._owner, self.half = file, owner, True
        self.fileno, self.close = file.fileno, file.close

    def write(self, content):
        if not self._owner.broken:
            return self._file.write(content)
        if self.half:
            self.half = False
            return self._file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("flag", ["--log", "--tensorboard"])
def test_what_cannot_be_opened_is_refused_before_the_net_is_built(project, run, flag):
    (project / "file").write_text("")
    status, _, err = run("train", "--solver", "solver.prototxt", flag, "file/x")
    assert status == 1 and "cannot write" in err and "Creating Layer" not in err


# -- other commands ----------------------------------------------------------------------------------------------------


@needs_full
@pytest.mark.parametrize("words", ["summarize net.prototxt", "train --help", "--help", "--version"])
@pytest.mark.parametrize("target, reason", [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")])
def test_standard_output_that_cannot_be_written_is_one_sentence(project, words, target, reason):
    out, err = shell(f"{{ $M {words}; }} {target}; echo $?")
    assert (out, err) == ("1\n", f"minicaffe: cannot write to standard output: {reason}\n")


@needs_full
@pytest.mark.parametrize("target", [">/dev/full 2>/dev/full", ">&- 2>&-"])
def test_nothing_can_be_written_at_all(project, target):
    assert shell(f"{{ $M summarize net.prototxt; }} {target}; echo $?") == ("1\n", "")


def test_a_reader_that_ends_gets_no_complaint(project):
    out, err = shell("{ $M summarize net.prototxt; echo $? > status; } | true")
    assert (out, err) == ("", "")
    assert (project / "status").read_text() in ("0\n", "1\n")  # `true` may end before or after the output


# -- before a long command ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("test", "--model", "net.prototxt", "--weights", "net.prototxt", "--confusion", "no/such.csv"),
        ("compute_image_mean", "db", "no/such.binaryproto"),
        ("classify", "in.png", "no/such.npy", "--model_def", "net.prototxt", "--pretrained_model", "net.prototxt"),
        ("detect", "in.csv", "no/such.csv", "--model_def", "net.prototxt", "--pretrained_model", "net.prototxt"),
    ],
)
def test_what_a_command_writes_at_its_end_is_checked_first(project, run, words):
    status, _, err = run(*words)
    assert status == 1 and err.startswith("minicaffe: cannot write 'no/such.") and "No such file" in err


def test_the_kind_of_the_confusion_matrix_is_checked_first(project, run):
    words = ("test", "--model", "net.prototxt", "--weights", "net.prototxt", "--confusion", "m.txt")
    assert run(*words)[::2] == (1, "minicaffe: --confusion: expected a .png, .svg, .pdf or .csv file, got 'm.txt'\n")


# -- the snapshot prefix -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, flags, status",
    [
        ("", [], 1),  # the last snapshot
        ("snapshot: 2 snapshot_after_train: false", [], 1),
        ("snapshot_after_train: false", [], 0),  # a SIGHUP would write one
        ("snapshot_after_train: false", ["-sighup_effect", "none"], 0),
    ],
)
def test_a_prefix_without_a_folder(project, run, fields, flags, status):
    text = (project / "solver.prototxt").read_text().replace("snapshot: 5", fields)
    (project / "solver.prototxt").write_text(text.replace('"tiny"', '"no/tiny"'))
    got, _, err = run("train", "--solver", "solver.prototxt", *flags)
    assert got == status and not os.path.exists("no")
    assert ("cannot write to the snapshot prefix 'no/tiny'" in err) == (not flags)
    assert ("a signal will write no snapshot" in err) == (not status and not flags)
    if status:
        assert "Creating Layer" not in err
