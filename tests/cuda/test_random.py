"""Random numbers drawn on the device are the same as those of the host's stream."""

import numpy as np
import pytest

from minicaffe.core.random import Stream
from minicaffe.cuda import kernels, ops
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.random import DeviceStream

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("thread_order")]


def numbers(state, n, again=False):
    out = DeviceBuffer(4 * n)
    kernels.kernel("random", "uniform_u32")(n, state, 0 if again else ops.tickets(1), out)
    return out.to_host(np.empty(n, np.uint32))


def test_the_same_numbers_as_on_the_host():
    host, device = Stream(11, 3), DeviceStream(Stream(11, 3))
    for n in (5, 8, 1, 1000):
        assert (numbers(device.draw(n), n) == host.uniform_u32(n)).all()


def test_a_draw_can_be_read_again():
    device = DeviceStream(Stream(1))
    state = device.draw(20)
    assert (numbers(state, 20) == numbers(state, 20, again=True)).all()


def test_a_stream_that_is_set_back_draws_again():
    stream = Stream(5)
    device = DeviceStream(stream)
    saved = stream.get_state()
    first = numbers(device.draw(40), 40)
    stream.set_state(saved)
    assert (numbers(device.draw(40), 40) == first).all()


def test_host_and_device_draws_may_alternate():
    stream, reference = Stream(9), Stream(9)
    device = DeviceStream(stream)
    assert (numbers(device.draw(3), 3) == reference.uniform_u32(3)).all()
    assert (stream.uniform_u32(9) == reference.uniform_u32(9)).all()
    assert (numbers(device.draw(17), 17) == reference.uniform_u32(17)).all()
