"""Groups of ranks: over TCP, the ranks are threads; over MPI, processes that mpiexec starts."""

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest

from helpers import groups
from minicaffe.errors import ParallelError
from minicaffe.parallel import joining, peers
from minicaffe.parallel.group import ALONE
from minicaffe.parallel.sockets import SocketGroup, free_address


def run_tcp(size, work, host="127.0.0.1"):
    """Run `work(group)` in a thread for each rank; return the results and the errors of the ranks."""
    listener = joining.listen((host, 0))
    address = host or "127.0.0.1", listener.getsockname()[1]
    results, errors = [None] * size, [None] * size

    def rank_thread(rank):
        try:
            with contextlib.closing(
                SocketGroup(address, rank, size, "secret", listener=None if rank else listener)
            ) as group:
                results[rank] = work(group)
        except BaseException as error:
            errors[rank] = error

    threads = [threading.Thread(target=rank_thread, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, errors


def no_errors(run):
    results, errors = run
    for error in errors:
        if error:
            raise error
    return results


# -- any transport -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("body", groups.BODIES, ids=lambda body: body.__name__)
def test_tcp(body, size):
    no_errors(run_tcp(size, body))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_mpi(mpiexec, size):
    done = mpiexec(size, "-m", "helpers.groups")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [len(groups.BODIES)] * size


@pytest.mark.parametrize("body", groups.BODIES, ids=lambda body: body.__name__)
def test_alone(body):
    body(ALONE)


def test_mpi_is_imported_only_when_it_is_used():
    code = """
import sys
import minicaffe
from minicaffe import parallel
assert parallel.start().size == 1
assert not [name for name in sys.modules if name.startswith("mpi4py")]
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# -- messages over TCP -------------------------------------------------------------------------------------------------


def test_messages_that_fill_the_buffers_of_the_connections():
    """All ranks send before any receives."""

    def work(group):
        array = np.full(2_000_003, group.rank + 1, np.float32)
        for _ in range(3):
            group.sum(array)
        return array[0], array[-1]

    assert no_errors(run_tcp(3, work)) == [(54, 54)] * 3


def test_messages_in_pieces(monkeypatch):
    monkeypatch.setattr(peers, "_AT_ONCE", 1000)
    monkeypatch.setattr(peers, "_SMALL", 100)
    no_errors(run_tcp(3, groups.broadcasts))


def test_the_root_keeps_its_memory():
    def work(group):
        for count in (1, 600_000, 10):
            group.sum(np.ones(count))
        return group._terms.nbytes if group.root else 0

    assert no_errors(run_tcp(2, work)) == [1 << 20, 0]


def test_a_rank_that_ends_is_named_at_all_ranks():
    def work(group):
        if group.rank != 1:
            group.sum(np.ones(1_000_000, np.float32))

    _, errors = run_tcp(3, work)
    assert errors[1] is None
    assert str(errors[0]) == str(errors[2])
    assert str(errors[0]).startswith("rank 0 has lost the connection to rank 1")


# -- joining -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", ""])
def test_hosts(host):
    if host == "::1":
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("there is no IPv6")
    no_errors(run_tcp(3, groups.duplicates_are_independent, host=host))


def test_the_root_may_come_last():
    address, values = free_address(), []

    def work(rank):
        with contextlib.closing(SocketGroup(address, rank, 2)) as group:
            values.append(group.share(7))

    thread = threading.Thread(target=work, args=(1,))
    thread.start()
    thread.join(0.2)
    work(0)
    thread.join()
    assert values == [7, 7]


TOKEN = "its token is not that of rank 0: the processes do not belong to one training"


@pytest.mark.parametrize(
    ("hellos", "refusals", "missing", "reason"),
    [
        ([], [], "ranks 1, 2 of 3", ""),
        ([(2, 3, "t")], [""], "rank 1 of 3", ""),
        ([(1, 3, "x"), (2, 3, "")], [TOKEN] * 2, "ranks 1, 2 of 3", TOKEN),
        ([(1, 3, "t"), (1, 3, "t")], ["", "there are two processes of rank 1"], "rank 2 of 3", None),
        ([(2, 4, "t")], ["rank 0 expects 3 ranks, rank 2 expects 4"], "ranks 1, 2 of 3", None),
        ([(3, 3, "t")], ["rank 3 is not one of 1 to 2"], "ranks 1, 2 of 3", None),
        ([(0, 3, "t")], ["rank 0 is not one of 1 to 2"], "ranks 1, 2 of 3", None),
    ],
    ids=["none", "one", "tokens", "twice", "size", "above", "root"],
)
def test_ranks_that_do_not_join(hellos, refusals, missing, reason, monkeypatch):
    """What the processes send is there before the root starts, so that no time has to be sufficient."""
    challenge = b"c" * 32
    monkeypatch.setattr(joining.secrets, "token_bytes", lambda count: challenge)
    listener, found = joining.listen(("127.0.0.1", 0)), []
    processes = [socket.create_connection(listener.getsockname()) for _ in hellos]
    for process, (rank, size, token) in zip(processes, hellos):
        process.sendall(struct.pack("!8sII32s", b"minicaf1", rank, size, joining._digest(token, challenge, rank, size)))
    with pytest.raises(ParallelError) as error:
        SocketGroup(("", 0), 0, 3, "t", timeout=0.3, listener=listener)
    sentence = f"{missing} did not join within 0.3 seconds"
    refused = next(filter(None, refusals), "") if reason is None else reason
    assert str(error.value) == sentence + (f"; a process was refused: {refused}" if refused else "")
    for process, refusal in zip(processes, refusals):
        with process:
            assert process.recv(40, socket.MSG_WAITALL)[:8] == b"minicaf1"
            peer = peers.Peer(process, 0, 1)
            found.append(peer.receive(joining._JOIN).decode())
            if not refusal:  # has joined
                with pytest.raises(ParallelError, match=sentence):
                    peer.receive(joining._JOIN)
    assert found == refusals


def test_a_process_with_another_token_is_refused_and_the_rank_joins():
    with joining.listen(("127.0.0.1", 0)) as listener:
        address, values = listener.getsockname(), []

        def work(rank, token):
            with contextlib.closing(SocketGroup(address, rank, 2, token, listener=None if rank else listener)) as group:
                values.append(group.share(3))

        thread = threading.Thread(target=work, args=(0, "a"))
        thread.start()
        with pytest.raises(ParallelError, match=f"rank 1 cannot join: {TOKEN}"):
            work(1, "b")
        work(1, "a")
        thread.join()
    assert values == [3, 3]


def test_a_rank_that_is_not_below_the_size():
    with pytest.raises(ParallelError, match="a group of 2 has the ranks 0 to 1, got 2"):
        SocketGroup(("127.0.0.1", 1), 2, 2)


@pytest.mark.parametrize("content", [b"", b"GET / HTTP/1.1\r\n\r\n", b"minicaf1" + b"\xff" * 100, b"\0" * 5000])
def test_other_programs_that_connect(content):
    """They are there before the ranks, send nothing or something else, and stay."""
    with joining.listen(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        strangers = [socket.create_connection(address) for _ in range(5)]
        socket.create_connection(address).close()
        for stranger in strangers:
            stranger.sendall(content)
        results = []

        def work(rank):
            with contextlib.closing(SocketGroup(address, rank, 2, "t", listener=None if rank else listener)) as group:
                results.append(group.share(3))

        threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for stranger in strangers:
            stranger.close()
    assert results == [3, 3]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"", "another program listens there, or rank 0 has ended"),
        (b"SSH-2.0-OpenSSH_9.2\r\n" + b" " * 100, "another program listens there"),
        (None, "timed out"),
    ],
)
def test_another_program_at_the_address(reply, message):
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve():
            connection, _ = server.accept()
            held.append(connection)
            if reply is not None:
                connection.sendall(reply)
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ParallelError, match=f"rank 1 cannot reach rank 0 at 127.0.0.1:.*: {message}"):
            SocketGroup(server.getsockname(), 1, 2, timeout=0.1)
        thread.join()
        held[0].close()


def test_a_root_that_is_not_there():
    host, port = free_address()
    with pytest.raises(ParallelError, match=f"rank 1 cannot reach rank 0 at {host}:{port}: "):
        SocketGroup((host, port), 1, 2, timeout=0.2)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "x" * 100, "a..b"])
def test_names_that_are_no_hosts(host):
    with pytest.raises(ParallelError, match="rank 1 cannot reach rank 0 at"):
        SocketGroup((host, 29500), 1, 2, timeout=0.5)


def test_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        with pytest.raises(ParallelError, match=f"rank 0 cannot listen at {host}:{port}: Address already in use"):
            SocketGroup((host, port), 0, 2)


def test_a_stranger_cannot_claim_a_large_message():
    """A length is read from ranks that have joined only: a hello has a fixed size."""
    assert struct.calcsize("!8sII32s") == joining._HELLO.size == 48
