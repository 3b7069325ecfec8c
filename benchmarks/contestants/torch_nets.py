"""Convert a NetParameter to a PyTorch module, with the modules and functions that a hand-written one would use.

Only layer types of the benchmarks' nets.  BatchNorm and the Scale after it, which must work in place, become one
BatchNorm2d.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

_SKIPPED = ("Input", "SoftmaxWithLoss", "Softmax", "Split", "Scale")


class NormalizeChannels(nn.Module):
    """SSD's Normalize at each position: channels divided by their Euclidean norm, times a learned factor for each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), None

    def forward(self, x):
        return F.normalize(x, eps=1e-10) * self.weight[:, None, None]


class TorchNet(nn.Module):
    """The layers of a NetParameter in order; called with (N, C, H, W), it returns the last score (before softmax)."""

    def __init__(self, net, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict()
        self.steps: list[tuple] = []
        self.scales = {layer.bottom[0]: layer.name for layer in net.layer if layer.type == "Scale"}
        self.blobs = {"data": torch.zeros(1, *shape[1:])}  # one sample, from which the shapes are inferred
        with torch.no_grad():
            for layer in net.layer:
                if layer.type not in _SKIPPED:
                    make = getattr(self, "_" + layer.type.lower())
                    bottoms = [self.blobs[name] for name in layer.bottom]
                    function = make(layer, *bottoms)
                    self.steps.append((function, tuple(layer.bottom), layer.top[0]))
                    self.blobs[layer.top[0]] = function(*bottoms)
        del self.blobs
        last = {name: i for i, (_, bottoms, _) in enumerate(self.steps) for name in bottoms}
        self.freed = [[name for name in set(step[1]) if last[name] == i] for i, step in enumerate(self.steps)]

    def forward(self, data):
        values = {"data": data}
        for (function, bottoms, top), freed in zip(self.steps, self.freed, strict=True):
            result = function(*(values[name] for name in bottoms))
            for name in freed:
                del values[name]
            values[top] = result
        return result

    def load(self, params: dict) -> None:
        """Copy weights from {layer name: [arrays]}."""
        with torch.no_grad():
            for name, tensors in self.learned().items():
                for target, array in zip(tensors, params[name], strict=True):
                    target.copy_(torch.from_numpy(array))

    def learned(self) -> dict:
        """Return {layer name: [weight, bias]} of all learned parameters; a BatchNorm2d has the Scale's name."""
        result = {}
        for name, part in self.parts.items():
            if found := [p for p in (part.weight, part.bias) if p is not None]:
                result[self.scales[part.blob] if isinstance(part, nn.BatchNorm2d) else name] = found
        return result

    # -- one method per layer type; each returns a function of the bottoms ---------------------------------------------

    def _add(self, layer, module):
        self.parts[layer.name] = module.eval()  # the sample must not change the statistics
        return module

    def _convolution(self, layer, x):
        p = layer.convolution_param
        defaults = (p.stride, 1), (p.pad, 0), (p.dilation, 1)
        stride, pad, dilation = ((list(field) or [default])[0] for field, default in defaults)
        geometry = p.kernel_size[0], stride, pad, dilation, p.group, p.bias_term
        return self._add(layer, nn.Conv2d(x.shape[1], p.num_output, *geometry))

    def _deconvolution(self, layer, x):
        p = layer.convolution_param
        return self._add(layer, nn.ConvTranspose2d(x.shape[1], p.num_output, p.kernel_size[0], p.stride[0]))

    def _innerproduct(self, layer, x):
        linear = self._add(layer, nn.Linear(x[0].numel(), layer.inner_product_param.num_output))
        return lambda x: linear(torch.flatten(x, 1))

    def _batchnorm(self, layer, x):
        module = nn.BatchNorm2d(x.shape[1], layer.batch_norm_param.eps, affine=layer.top[0] in self.scales)
        module.blob = layer.top[0]
        return self._add(layer, module)

    def _pooling(self, layer, x):
        p = layer.pooling_param
        maximum = p.pool == p.MAX
        if p.global_pooling:
            return lambda x: F.adaptive_avg_pool2d(x, 1)
        kind = F.max_pool2d if maximum else F.avg_pool2d
        return lambda x: kind(x, p.kernel_size, p.stride or 1, p.pad, ceil_mode=True)

    def _relu(self, layer, x):
        return lambda x: F.relu(x, inplace=True)

    def _sigmoid(self, layer, x):
        return torch.sigmoid

    def _dropout(self, layer, x):
        return lambda x: x  # only inference nets of the benchmarks have dropout

    def _eltwise(self, layer, x, y):
        return torch.add

    def _concat(self, layer, *xs):
        return lambda *xs: torch.cat(xs, 1)

    def _crop(self, layer, x, like):
        (first,), (height, width) = layer.crop_param.offset, like.shape[2:]
        return lambda x, like: x[:, :, first : first + height, first : first + width]

    def _normalize(self, layer, x):
        return self._add(layer, NormalizeChannels(x.shape[1]))

    def _permute(self, layer, x):
        return lambda x: x.permute(*layer.permute_param.order)

    def _flatten(self, layer, x):
        return lambda x: torch.flatten(x, 1)

    def _lrn(self, layer, x):
        p = layer.lrn_param
        size, alpha, beta = p.local_size, p.alpha, p.beta
        if p.norm_region == p.ACROSS_CHANNELS:
            return lambda x: F.local_response_norm(x, size, alpha, beta, p.k)
        return lambda x: x / (1 + alpha * F.avg_pool2d(x * x, size, 1, size // 2)) ** beta
