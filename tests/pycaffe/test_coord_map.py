"""Coordinate maps between blobs of a NetSpec, and the Crop layers computed from them."""

import numpy as np
import pytest

from minicaffe import net_spec
from minicaffe.coord_map import (
    AxisMismatchException,
    UndefinedMapException,
    compose,
    conv_params,
    coord_map,
    coord_map_from_to,
    crop,
    crop_params,
    inverse,
)
from minicaffe.net_spec import NetSpec

L, P = net_spec.layers, net_spec.params


def hourglass(kernel=3, stride=1, pad=0, pool=2, up=2, up_pad=0):
    """Build data -> conv -> pool -> deconv: the deconvolution restores the resolution."""
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 1, 100, 100]))
    n.aux = L.Input(shape=dict(dim=[2, 1, 20, 20]))
    n.conv = L.Convolution(n.data, num_output=10, kernel_size=kernel, stride=stride, pad=pad)
    n.pool = L.Pooling(n.conv, pool=P.Pooling.MAX, kernel_size=pool, stride=pool, pad=0)
    n.deconv = L.Deconvolution(n.pool, num_output=10, kernel_size=2 * up, stride=up, pad=up_pad)
    return n


def assert_map(actual, axis, scale, shift):
    assert actual[0] == axis
    np.testing.assert_allclose(actual[1], scale)
    np.testing.assert_allclose(actual[2], shift)


@pytest.mark.parametrize("pool, shift", [(2, 0), (4, -1)])
def test_down_and_up_again(pool, shift):
    n = hourglass(pool=pool, up=pool)
    assert_map(coord_map_from_to(n.deconv, n.data), 1, 1, shift)


def test_pointwise_layers_change_nothing():
    n = hourglass()
    before = coord_map_from_to(n.deconv, n.data)
    n.relu = L.ReLU(n.deconv)
    n.one = L.Convolution(n.relu, num_output=10, kernel_size=1)
    for top in (n.relu, n.one):
        assert_map(coord_map_from_to(top, n.data), *before)


@pytest.mark.parametrize("pad", [0, 3, 10])
def test_padding_shifts(pad):
    for kwargs, shift in (({"pad": pad}, -pad), ({"up_pad": pad}, pad), ({"pad": pad, "up_pad": pad}, 0)):
        n = hourglass(**kwargs)
        assert_map(coord_map_from_to(n.deconv, n.data), 1, 1, shift)


def test_bottoms_of_one_layer_map_alike():
    n = hourglass()
    n.a, n.b = L.Convolution(n.data, n.aux, ntop=2, num_output=10, kernel_size=5, stride=2)
    assert_map(coord_map_from_to(n.a, n.data), *coord_map_from_to(n.b, n.aux))


def test_axes_of_their_own():
    n = hourglass(kernel=[3, 5], stride=[1, 2], pad=[0, 10])
    _, scale, shift = coord_map_from_to(n.deconv, n.data)
    for i, single in enumerate((hourglass(3, 1, 0), hourglass(5, 2, 10))):
        _, one_scale, one_shift = coord_map_from_to(single.deconv, single.data)
        assert scale[i] == one_scale and shift[i] == one_shift


def test_three_spatial_axes():
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 3, 50, 50, 50]))
    n.conv = L.Convolution(n.data, num_output=10, kernel_size=[3, 3, 3], stride=[1, 1, 1], pad=[0, 1, 2])
    assert_map(coord_map_from_to(n.conv, n.data), 1, [1, 1, 1], [1, 0, -1])


def test_crop_of_a_crop():
    n = hourglass()
    _, _, shift = coord_map_from_to(n.deconv, n.data)
    n.crop = L.Crop(n.deconv, n.data, axis=2, offset=7)
    assert_map(coord_map_from_to(n.crop, n.data), 1, 1, shift + 7)


def test_crop_writes_the_layer():
    n = hourglass(pool=4, up=4)
    n.crop = crop(n.deconv, n.data)
    layer = n.to_proto().layer[-1]
    assert list(layer.bottom) == ["deconv", "data"]
    assert layer.crop_param.axis == 2 and list(layer.crop_param.offset) == [1]
    n.same = crop(L.ReLU(n.data), n.data)
    assert n.same.fn.params["crop_param"] == dict(axis=2, offset=[0])


def test_what_cannot_be_mapped():
    n = hourglass()
    n.ip = L.InnerProduct(n.deconv, num_output=10)
    with pytest.raises(RuntimeError, match="connected by spatial layers"):
        coord_map_from_to(n.ip, n.data)
    with pytest.raises(UndefinedMapException, match="InnerProduct"):
        coord_map(n.ip.fn)
    with pytest.raises(AssertionError, match="use kernel_size"):
        coord_map(L.Convolution(n.data, kernel_h=3, kernel_w=2).fn)
    with pytest.raises(AssertionError, match="without a kernel_size"):
        coord_map(L.Pooling(n.data, global_pooling=True).fn)


def test_what_cannot_be_cropped():
    with pytest.raises(AssertionError, match="scale mismatch"):
        crop((n := hourglass(pool=3, up=2)).deconv, n.data)
    with pytest.raises(AssertionError, match="negative"):
        crop((n := hourglass(up_pad=10)).deconv, n.data)
    with pytest.raises(AssertionError, match="noninteger"):
        crop((n := hourglass(kernel=2, pad=1)).conv, n.data)


def test_compose_and_inverse():
    first, second = (1, 2.0, 3.0), (None, 4.0, 5.0)
    assert compose(first, second) == (1, 8.0, 13.0)
    assert compose(second, first) == (1, 8.0, 17.0)
    assert compose(first, inverse(first)) == (1, 1.0, 0.0)
    with pytest.raises(AxisMismatchException):
        compose((1, 1, 0), (2, 1, 0))


def test_params_of_layers():
    fn = L.Convolution(L.Input(), convolution_param=dict(kernel_size=3, dilation=2, stride=2, pad=1, axis=2)).fn
    axis, stride, kernel, pad = conv_params(fn)
    assert (axis, stride.tolist(), kernel.tolist(), pad.tolist()) == (2, [2], [5], [1])
    assert crop_params(L.Crop(L.Input(), L.Input()).fn) == (2, np.array([0]))
