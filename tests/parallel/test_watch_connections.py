"""The watch's connections, in threads of this process, and what ends them."""

import socket
import threading

import pytest

from helpers.ranks import run_ranks
from minicaffe.parallel import watching
from minicaffe.parallel.watch_rank import RankWatch
from minicaffe.parallel.watch_root import RootWatch

NAMES = ["0 (a, process 1)", "1 (a, process 2)"]


class Two:
    """The watches of two ranks; `ended` has (rank, status) of those that would have ended their processes."""

    def __init__(self):
        self.ended = []
        root, other = socket.socketpair()
        self.root = RootWatch([root], NAMES, lambda status: self.ended.append((0, status)))
        self.other = RankWatch(other, 1, NAMES, lambda status: self.ended.append((1, status)))


@pytest.fixture
def two():
    two = Two()
    yield two
    two.other.close()
    two.root.close()


def test_the_root_is_found_at_its_second_address():
    def watched(group):
        watching.watch_over(group).finish()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "_addresses", lambda one_host: ["no.such.host.invalid", "127.0.0.1"])
        run_ranks(2, watched)


def test_both_finish(two):
    other = threading.Thread(target=two.other.finish)
    other.start()
    two.root.finish()
    other.join()
    assert not two.ended


def test_a_failure_is_printed_by_the_root(two, capfd):
    assert two.other.fail(": no file\x1b x", 3)
    two.other.close()
    assert two.root.fails_elsewhere(30)
    assert two.ended == [(0, 1)]
    assert capfd.readouterr().err == "minicaffe: rank 1 (a, process 2): no file\\x1b x\n"


def test_a_failure_of_the_root_ends_the_other(two, capfd):
    assert two.root.fail(": no file x")
    assert two.other.fails_elsewhere(30)
    assert two.ended == [(1, 1)]
    assert capfd.readouterr().err == "minicaffe: rank 0 (a, process 1): no file x\n"


def test_a_root_that_is_gone(two, capfd):
    two.root.close()
    assert two.other.fails_elsewhere(30)
    assert two.ended == [(1, 1)]
    assert capfd.readouterr().err == "minicaffe: rank 0 (a, process 1) was killed, or its connection was lost\n"
    assert two.other.fail(" was interrupted")  # it prints nothing more
