"""The watch's connections, in threads of this process: which are accepted, and what ends them."""

import contextlib
import socket
import threading

import pytest

from minicaffe.errors import ParallelError
from minicaffe.parallel import watch_root
from minicaffe.parallel.watch_rank import RankWatch, connect
from minicaffe.parallel.watch_root import RootWatch

NAMES = ["0 (a, process 1)", "1 (a, process 2)"]


class Two:
    """The watches of two ranks; `ended` has (rank, status) of those that would have ended their processes."""

    def __init__(self):
        self.ended = []
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.root = RootWatch(listener, "secret", NAMES, lambda status: self.ended.append((0, status)))
        self.other = None

    def join(self):
        connection = connect([("127.0.0.1", 1), self.address], "secret", 1)
        self.other = RankWatch(connection, 1, NAMES, lambda status: self.ended.append((1, status)))
        self.root.wait_for_all()


@pytest.fixture
def two():
    two = Two()
    yield two
    for watch in filter(None, (two.other, two.root)):
        watch.close()


HELLOS = {
    "a browser": b"GET / HTTP/1.1\r\n\r\n",
    "a wrong token": b'{"token": "another", "rank": 1}\n',
    "no token": b'{"rank": 1}\n',
    "no rank": b'{"token": "secret"}\n',
    "the root": b'{"token": "secret", "rank": 0}\n',
    "no such rank": b'{"token": "secret", "rank": 2}\n',
    "a list as rank": b'{"token": "secret", "rank": [1]}\n',
    "a list": b"[1]\n",
    "an empty line": b"\n",
    "a long line": b"x" * 200_000,
}


@pytest.mark.parametrize("hello", HELLOS.values(), ids=HELLOS)
def test_others_are_not_accepted(two, hello):
    with socket.create_connection(two.address, 30) as stranger:
        with contextlib.suppress(ConnectionError):
            stranger.sendall(hello)
            assert stranger.recv(100) == b""
    two.join()
    assert not two.ended


def test_a_connection_that_sends_nothing_does_not_stop_the_others(two):
    with socket.create_connection(two.address, 30) as stranger:
        two.join()
        with contextlib.suppress(ConnectionError):
            assert stranger.recv(100) == b""
    with pytest.raises(OSError):  # once all have joined, no more connections are accepted
        socket.create_connection(two.address, 30)


def test_the_error_of_a_wrong_token_names_the_addresses(two):
    with pytest.raises(ParallelError, match=r"rank 1 cannot reach rank 0 a second time.*127\.0\.0\.1:\d+: another"):
        connect([two.address], "another", 1)


def test_ranks_that_do_not_come_are_named(two, monkeypatch):
    monkeypatch.setattr(watch_root, "JOIN_SECONDS", 0.01)
    with pytest.raises(ParallelError, match=r"rank 1 \(a, process 2\) did not connect"):
        two.root.wait_for_all()


def test_both_finish(two):
    two.join()
    other = threading.Thread(target=two.other.finish)
    other.start()
    two.root.finish()
    other.join()
    assert not two.ended


def test_a_failure_is_printed_by_the_root(two, capfd):
    two.join()
    assert two.other.fail(": no file\x1b x", 3)
    two.other.close()
    assert two.root.fails_elsewhere(30)
    assert two.ended == [(0, 1)]
    assert capfd.readouterr().err == "minicaffe: rank 1 (a, process 2): no file\\x1b x\n"


def test_a_failure_of_the_root_ends_the_other(two, capfd):
    two.join()
    assert two.root.fail(": no file x")
    assert two.other.fails_elsewhere(30)
    assert two.ended == [(1, 1)]
    assert capfd.readouterr().err == "minicaffe: rank 0 (a, process 1): no file x\n"


def test_a_root_that_is_gone(two, capfd):
    two.join()
    two.root.close()
    assert two.other.fails_elsewhere(30)
    assert two.ended == [(1, 1)]
    assert capfd.readouterr().err == "minicaffe: rank 0 (a, process 1) was killed, or its connection was lost\n"
    assert two.other.fail(" was interrupted")  # it prints nothing more
