"""Ranks of one training as threads of the test's process: settings and seeds belong to a thread, as in Caffe."""

import threading

from minicaffe import parallel
from minicaffe.parallel.sockets import SocketGroup, free_address


def run_ranks(size, work):
    """Return [work(group) of rank 0, of rank 1, ...]; the first exception of a rank is raised here."""
    address, results, errors = free_address(), [None] * size, []

    def rank_thread(rank):
        try:
            parallel.start(SocketGroup(address, rank, size, timeout=30))
            results[rank] = work(parallel.current())
        except BaseException as error:
            errors.append(error)
        finally:
            parallel.stop()

    threads = [threading.Thread(target=rank_thread, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
