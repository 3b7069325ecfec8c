"""Starting the watch over a group: where the root listens, and how the others reach it."""

from __future__ import annotations

import atexit
import os
import secrets
import socket
from collections.abc import Callable

from minicaffe.parallel.ending import end_process
from minicaffe.parallel.group import Group
from minicaffe.parallel.watch import Watch, rank_name
from minicaffe.parallel.watch_rank import RankWatch, connect
from minicaffe.parallel.watch_root import RootWatch

_HERE = "127.0.0.1"


def watch_over(group: Group, end: Callable[[int], None] = end_process) -> Watch:
    """Start the watch over the processes of a group, of at least two ranks; collective.

    end: ends this process with a status; another function in tests.
    Raises ParallelError if the root cannot be reached by a second connection.
    """
    hosts = group.share(group.gather([socket.gethostname(), os.getpid()]))
    names = [rank_name(rank, host, process) for rank, (host, process) in enumerate(hosts)]
    one_host = len({host for host, _ in hosts}) == 1
    watch: Watch
    if group.root:
        listener = _listen(one_host)
        token = secrets.token_hex(16)
        port = listener.getsockname()[1]
        group.share([token, [[host, port] for host in _addresses(one_host)]])
        watch = RootWatch(listener, token, names, end)
        watch.wait_for_all()
    else:
        token, addresses = group.share()
        connection = connect([(host, port) for host, port in addresses], token, group.rank)
        watch = RankWatch(connection, group.rank, names, end)
    atexit.register(watch.at_exit)
    return watch


def _listen(one_host: bool) -> socket.socket:
    """Return a socket at a free port, of the loopback interface if all ranks are on one host."""
    if one_host:
        return socket.create_server((_HERE, 0), backlog=1024)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True)
    return socket.create_server(("", 0), backlog=1024)


def _addresses(one_host: bool) -> list[str]:
    """Return the names and addresses of this host by which the others may reach it, the most likely first."""
    if one_host:
        return [_HERE]
    name = socket.gethostname()
    found = [os.environ.get("MASTER_ADDR", ""), name, socket.getfqdn()]
    try:
        found += socket.gethostbyname_ex(name)[2]
    except OSError:  # it has no address by its name
        pass
    return list(dict.fromkeys(address for address in found if address and not address.startswith("127.")))
