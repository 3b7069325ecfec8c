"""Ranks of one training as threads of the test's process: settings and seeds belong to a thread, as in Caffe."""

import gc
import threading

from minicaffe import parallel
from minicaffe.core.settings import settings
from minicaffe.parallel.joining import listen
from minicaffe.parallel.sockets import SocketGroup

#: a linear regression on random numbers, for solvers whose data do not matter
REGRESSION = """
net_param {
  layer { name: "data" type: "DummyData" top: "x" top: "t"
          dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 } data_filler { type: "gaussian" } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
          inner_product_param { num_output: 1 weight_filler { type: "xavier" } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
}
"""


def run_ranks(size, work):
    """Return [work(group) of rank 0, of rank 1, ...]; the first exception of a rank is raised here."""
    listener, results, errors = listen(("127.0.0.1", 0)), [None] * size, []
    address = listener.getsockname()

    def rank_thread(rank):
        try:
            parallel.start(SocketGroup(address, rank, size, listener=None if rank else listener))
            results[rank] = work(parallel.current())
        except BaseException as error:
            errors.append(error)
        finally:
            parallel.stop()
            if settings.engine.mode == "GPU":
                gc.collect()  # pinned memory must be freed by a thread that uses the GPU

    threads = [threading.Thread(target=rank_thread, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
