"""Starting the watch over a group: where the root listens, and how the others reach it."""

from __future__ import annotations

import atexit
import os
import secrets
import socket
from collections.abc import Callable, Sequence

from minicaffe.errors import ParallelError
from minicaffe.parallel.ending import end_process
from minicaffe.parallel.environment import places
from minicaffe.parallel.group import Group
from minicaffe.parallel.joining import Accepting, connect, listen
from minicaffe.parallel.watch import Watch, rank_name
from minicaffe.parallel.watch_rank import RankWatch
from minicaffe.parallel.watch_root import RootWatch

_HERE = "127.0.0.1"
JOIN_SECONDS = 30.0  #: for connecting the watch, once the group is connected
_CONNECT_SECONDS = 10.0  #: for each address of the root


def watch_over(group: Group, end: Callable[[int], None] = end_process) -> Watch:
    """Start the watch over the processes of a group, of at least two ranks; collective.

    end: ends this process with a status; another function in tests.
    Raises ParallelError if the root cannot be reached by a second connection.
    """
    where = places(group)
    names = [rank_name(rank, *place) for rank, place in enumerate(where)]
    one_host = len({place.host for place in where}) == 1
    watch: Watch
    if group.root:
        token = secrets.token_hex(16)
        with listen((_HERE if one_host else "", 0)) as listener:
            group.share([token, listener.getsockname()[1], _addresses(one_host)])
            peers = Accepting(listener, group.size, token).peers(JOIN_SECONDS)
        watch = RootWatch([peer.connection for peer in peers], names, end)
    else:
        token, port, addresses = group.share()
        watch = RankWatch(_reach_root(addresses, port, group, token), group.rank, names, end)
    atexit.register(watch.at_exit)
    return watch


def _reach_root(addresses: Sequence[str], port: int, group: Group, token: str) -> socket.socket:
    """Return a connection to the root's watch, at the first address where it replies; ParallelError if at none."""
    reasons = []
    for host in addresses:
        try:
            return connect((host, port), group.rank, group.size, token, _CONNECT_SECONDS, repeat=False).connection
        except ParallelError as error:
            reasons.append(str(error))
    raise ParallelError("; ".join(reasons) or f"rank {group.rank} has no address of rank 0, for the watch")


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
