"""Commands with a limit on the size of files: status 1 and one sentence, older files whole, nothing left behind.

`python tools/full_disk.py` does this with all commands on a disk that is full.
"""

import sys

import pytest

pytest.importorskip("resource")
from full_disk.commands import COMMANDS  # noqa: E402  (needs the line above)
from full_disk.trial import Inputs, clear, faults, put_older  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits of other systems differ")

NAMES = ["train_binary", "train_hdf5", "imageset_leveldb", "mean", "infer_csv", "infer_npz", "infer_hdf5", "classify",
         "detect_csv", "detect_hdf5", "draw_svg", "parse_log", "summarize", "whiten_net", "upgrade_net_binary", "fold",
         "export", "resize", "calibrate", "annoset", "data_shapes"]  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return Inputs(tmp_path_factory.mktemp("inputs"), tmp_path_factory.mktemp("room"))


@pytest.mark.parametrize("name", NAMES)
def test_with_little_room(inputs, tmp_path, name):
    whole = inputs.whole(name)
    largest = max(map(len, whole.values()))
    for room in (0, largest // 3, largest - 1):
        clear(tmp_path)
        older = put_older(COMMANDS[name], whole, tmp_path)
        result = inputs.attempt(name, tmp_path, room)
        assert faults(name, whole, tmp_path, result, older) == []
        assert result.status == 1 or COMMANDS[name].goes_on
