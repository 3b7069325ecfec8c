"""Trainings that are killed between two changes of files, or within a pass, and resumed by `--snapshot auto`.

Every file that is left is whole, and the resumed run gives the bits of the uninterrupted one.  `tools/kill_test.py`
kills at random moments, as often as requested.
"""

import os
import random
import sys

import pytest

from kills.killing import ENDS, WAYS, Point, differences, points
from kills.training import FORMS, Training, wait

pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs processes that fork")


@pytest.fixture(scope="module", params=FORMS)
def whole(request, tmp_path_factory):
    """The form of snapshots, the names of the points at which a training can be killed, and its result."""
    training = Training(tmp_path_factory.mktemp("whole") / "training", request.param)
    return request.param, points(training), training.result()


def kill_and_resume(folder, whole, kills):
    """Kill a training at each of the points (way, number), in successive processes, and compare the result."""
    form, _, expected = whole
    training = Training(folder / "training", form)
    for way, at in kills:
        status = wait(training.start(Point(at, way)))
        assert status in ENDS, training.output()
        assert not training.check()
    assert wait(training.start()) == 0, training.output()
    assert not differences(training.result(), expected)


@pytest.mark.parametrize("file", range(8))
def test_killed_when_a_file_has_changed(tmp_path, whole, file):
    """After each of eight successive changes: of run state, weights, solver state, best weights, and removals."""
    changes = [at for at, name in enumerate(whole[1]) if name in ("after replace", "after unlink")]
    kill_and_resume(tmp_path, whole, [("KILL", changes[len(changes) // 2 + file])])


@pytest.mark.parametrize("seed", range(4))
def test_killed_several_times(tmp_path, whole, seed):
    draw = random.Random(seed)
    kills = [(draw.choice(list(WAYS)), draw.randrange(len(whole[1]) // 2)) for _ in range(4)]
    kill_and_resume(tmp_path, whole, kills)


def test_a_result_that_differs_is_noticed(whole):
    _, names, expected = whole
    assert len(names) > 300 and len(set(names)) == 10
    for name in expected:
        assert differences({**expected, name: None}, expected) == name


def test_a_damaged_file_is_noticed(tmp_path, whole):
    training = Training(tmp_path / "training", whole[0])
    assert wait(training.start(Point(len(whole[1]) // 2, "KILL"))) == -9
    assert not training.check()
    for path in sorted(training.folder.glob("s_*")):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert training.check(), path.name
        path.write_bytes(content)
