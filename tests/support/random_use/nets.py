"""Random small nets, in which layers that engines fuse (residual blocks, siamese branches) are frequent."""

from __future__ import annotations

import random
from dataclasses import dataclass

from random_use import forks

_FILLERS = 'weight_filler { type: "xavier" } bias_filler { type: "gaussian" std: 0.3 }'
_KERNELS = ("kernel_size: 3 pad: 1", "kernel_size: 3 pad: 1", "kernel_size: 1", "kernel_size: 3 pad: 2 dilation: 2")
_WINDOWS = (
    ("kernel_size: 2 stride: 2", "half"),
    ("kernel_size: 3 stride: 2 pad: 1", "half3"),
    ("kernel_size: 3 stride: 1 pad: 1", ""),
)
_SINGLES = (
    *("LRN", "LRN", "LRN", "LRN", "ReLU", "Sigmoid", "TanH", "ELU", "PReLU", "BatchNorm", "Scale", "Bias"),
    *("Dropout", "Softmax", "Power", "AbsVal", "MVN"),
)
_ACTIVATIONS = ("ReLU", "Sigmoid", "TanH", "ELU", "PReLU", "Bias", "Scale", "Dropout", "Power", "BNLL", "Swish")


@dataclass(frozen=True)
class Head:
    """A blob that further layers may read.

    places: the operations that changed the spatial size; heads with equal ones have equal sizes for any input size.
    """

    name: str
    channels: int
    places: tuple[str, ...] = ()


class Grammar:
    """Generates one net.

    text: its prototxt.  classes: {label blob: number of classes}.  resizable: whether the net runs with other image
    sizes, which an InnerProduct on an image prevents.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.count = rng, 0
        self.layers: list[str] = []
        self.classes: dict[str, int] = {}
        self.resizable = True
        self.batch, self.size = rng.choice((1, 2, 3)), (rng.randint(5, 8), rng.randint(5, 8))
        self.heads = [self.picture() for _ in range(rng.choice((1, 1, 2)))]
        for _ in range(rng.randint(1, 4)):
            block = rng.choices(list(_BLOCKS), list(_BLOCKS.values()))[0]
            block(self)
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            self.loss()
        force = ["force_backward: true"] if rng.random() < 0.7 else []
        self.text = "\n".join(force + self.layers)

    # -- pieces ----------------------------------------------------------------------------------------------------

    def maybe(self, chance: float) -> bool:
        return self.rng.random() < chance

    def head_of(self, name: str, channels: int, places: tuple[str, ...]) -> Head:
        return Head(name, channels, places)

    def fresh(self, stem: str) -> str:
        """Return an unused name for a blob or layer."""
        self.count += 1
        return f"{stem}{self.count}"

    def add(self, kind: str, bottoms: list[str], tops: list[str], inside: str = "") -> None:
        blobs = [f'bottom: "{name}"' for name in bottoms] + [f'top: "{name}"' for name in tops]
        name, engine = self.fresh(kind.lower()), 'engine: "CAFFE"' if self.maybe(0.04) else ""
        text = f'layer {{ name: "{name}" type: "{kind}" {engine} {" ".join(blobs)} {inside} }}'
        self.layers.append(" ".join(text.split()))

    def input(self, *shape: int) -> str:
        name = self.fresh("x")
        dims = " ".join(f"dim: {dim}" for dim in shape)
        self.add("Input", [], [name], f"input_param {{ shape {{ {dims} }} }}")
        return name

    def picture(self) -> Head:
        channels = self.rng.choice((1, 2, 3, 4))
        return Head(self.input(self.batch, channels, *self.size), channels)

    def pick(self) -> Head:
        """Return a head, most likely the last; it stays in the list, so that blobs can have several readers."""
        return self.heads[-1] if self.maybe(0.6) else self.rng.choice(self.heads)

    def fitting(self, head: Head, channels: bool = True) -> list[Head]:
        """Return up to three of the last heads with the same image size, and, if `channels`, as many channels."""
        return [h for h in self.heads if h.places == head.places and (h.channels == head.channels or not channels)][-3:]

    def convolution(self, head: Head, channels: int = 0, same_size: bool = False, share: str = "") -> Head:
        """Add a Convolution.

        channels: number of its outputs, 0 for a random one.  share: suffix of the names of shared parameters.
        """
        rng, places = self.rng, head.places
        channels = channels or rng.choice((1, 2, 3, 4, 6, 8, 16))
        kernel = rng.choice(_KERNELS)
        if not same_size and self.maybe(0.15):
            kernel, places = "kernel_size: 3 pad: 1 stride: 2", (*places, "half")
        group = rng.choice([g for g in (1, 1, 1, 2, head.channels) if head.channels % g == channels % g == 0])
        bias = self.maybe(0.6)
        names = [f"w{share}", f"b{share}"][: 1 + bias] if share else []
        params = " ".join(f'param {{ name: "{name}" }}' for name in names)
        inside = f"num_output: {channels} {kernel} group: {group} bias_term: {str(bias).lower()} {_FILLERS}"
        top = self.fresh("c")
        self.add("Convolution", [head.name], [top], f"{params} convolution_param {{ {inside} }}")
        return Head(top, channels, places)

    def follow(self, head: Head, kinds: list[str]) -> Head:
        """Add layers, mostly in place, after a blob that no other layer reads."""
        for kind in kinds:
            top = head.name if self.maybe(0.8) else self.fresh(kind[0].lower())
            self.add(kind, [head.name], [top], self.parameters(kind))
            head = Head(top, head.channels, head.places)
        return head

    def parameters(self, kind: str) -> str:
        statistics = ("", "", "", "use_global_stats: true", "use_global_stats: false")
        bias = "bias_term: true" if self.maybe(0.6) else ""
        region = "WITHIN_CHANNEL" if self.maybe(0.3) else "ACROSS_CHANNELS"
        return {
            "ReLU": self.rng.choice(("", "", "relu_param { negative_slope: 0.1 }")),
            "BatchNorm": f"batch_norm_param {{ {self.rng.choice(statistics)} }}",
            "Scale": f'scale_param {{ filler {{ type: "uniform" min: 0.5 max: 1.5 }} {bias} }}',
            "Bias": 'bias_param { filler { type: "gaussian" std: 0.3 } }',
            "Dropout": "dropout_param { dropout_ratio: 0.3 }",
            "LRN": f"lrn_param {{ local_size: {self.rng.choice((3, 5))} alpha: 0.5 norm_region: {region} }}",
            "Power": f"power_param {{ scale: 0.7 shift: 0.2 power: {self.rng.choice((1, 1, 2))} }}",
        }.get(kind, "")

    def norm_kinds(self, relu: float = 0.5) -> list[str]:
        """Return a random subset of BatchNorm, Scale and ReLU."""
        kinds = ["BatchNorm"] if self.maybe(0.6) else []
        kinds += ["Scale"] if self.maybe(0.7 if kinds else 0.2) else []
        return kinds + (["ReLU"] if self.maybe(relu) else [])

    # -- blocks ----------------------------------------------------------------------------------------------------

    def plain_block(self) -> None:
        kinds = self.norm_kinds(0.6)
        if self.maybe(0.3):
            kinds += self.rng.choices(_ACTIVATIONS, k=self.rng.choice((1, 1, 2)))
        self.heads.append(self.follow(self.convolution(self.pick()), kinds))

    def residual_block(self) -> None:
        x = self.pick()
        inner = self.follow(self.convolution(x, same_size=True), self.norm_kinds(0.8)) if self.maybe(0.7) else x
        beside = x
        if self.maybe(0.5):
            beside = self.follow(self.convolution(x, same_size=True), self.norm_kinds(0.2))
        kinds = ["BatchNorm"] if self.maybe(0.85) else []
        kinds += ["Scale"] if self.maybe(0.8) else []
        end = self.follow(self.convolution(inner, beside.channels, same_size=True), kinds)
        self.join([beside, end], "SUM", coefficients=self.maybe(0.15))
        if self.maybe(0.2):
            self.heads.append(end)

    def siamese_block(self) -> None:
        """Add two branches with shared weights."""
        a = self.pick()
        b = next((head for head in self.fitting(a) if head != a), a)
        share, state = self.fresh("s"), self.rng.getstate()
        for head in (a, b):
            self.rng.setstate(state)
            self.heads.append(self.follow(self.convolution(head, share=share), self.norm_kinds()))

    def eltwise_block(self) -> None:
        a = self.pick()
        parts = self.fitting(a)
        if len(parts) < 2:
            parts = [a, self.convolution(a, a.channels, same_size=True)]
        self.join(parts, self.rng.choice(("SUM", "PROD", "MAX")), coefficients=self.maybe(0.3))

    def join(self, parts: list[Head], operation: str, coefficients: bool) -> None:
        """Add an Eltwise, and possibly a ReLU."""
        if self.maybe(0.5):
            parts = parts[::-1]
        numbers = (1, -0.5, 2)[: len(parts)] if coefficients and operation == "SUM" else ()
        coeffs = " ".join(f"coeff: {number}" for number in numbers)
        top = self.fresh("e")
        names = [part.name for part in parts]
        self.add("Eltwise", names, [top], f"eltwise_param {{ operation: {operation} {coeffs} }}")
        relu = ["ReLU"] if self.maybe(0.6) else []
        self.heads.append(self.follow(Head(top, parts[0].channels, parts[0].places), relu))

    def concat_block(self) -> None:
        a = self.pick()
        parts = self.fitting(a, channels=False)
        if len(parts) < 2:
            parts = [a, self.convolution(a, same_size=True)]
        top = self.fresh("j")
        self.add("Concat", [part.name for part in parts], [top])
        head = Head(top, sum(part.channels for part in parts), a.places)
        self.heads.append(self.follow(head, self.norm_kinds(0.3)))

    def slice_block(self) -> None:
        head = self.convolution(self.pick(), self.rng.choice((2, 4, 6)))
        tops = [self.fresh("p"), self.fresh("p")]
        self.add("Slice", [head.name], tops)
        self.heads += [Head(top, head.channels // 2, head.places) for top in tops]

    def pooling_block(self) -> None:
        head, top = self.pick(), self.fresh("m")
        window, place = self.rng.choice(_WINDOWS)
        pool = self.rng.choice(("MAX", "AVE"))
        self.add("Pooling", [head.name], [top], f"pooling_param {{ pool: {pool} {window} }}")
        head = Head(top, head.channels, (*head.places, place) if place else head.places)
        self.heads.append(self.follow(head, self.norm_kinds(0.3) if self.maybe(0.4) else []))

    def single_block(self) -> None:
        head, kind = self.pick(), self.rng.choice(_SINGLES)
        top = self.fresh(kind[0].lower())
        self.add(kind, [head.name], [top], self.parameters(kind))
        kinds = {"BatchNorm": ["Scale", "ReLU"], "Scale": ["ReLU"]}.get(kind, [self.rng.choice(_ACTIVATIONS)])
        head = Head(top, head.channels, head.places)
        self.heads.append(self.follow(head, kinds[: self.rng.randint(0, 2)]))

    def deconvolution_block(self) -> None:
        head, top = self.pick(), self.fresh("d")
        channels, bias = self.rng.choice((1, 2, 4)), str(self.maybe(0.6)).lower()
        inside = f"num_output: {channels} kernel_size: 2 stride: 2 bias_term: {bias} {_FILLERS}"
        self.add("Deconvolution", [head.name], [top], f"convolution_param {{ {inside} }}")
        self.heads.append(self.follow(Head(top, channels, (*head.places, "twice")), self.norm_kinds(0.4)))

    def shape_block(self) -> None:
        """Add a Flatten or Reshape, whose top shares the memory of its bottom."""
        head, top = self.convolution(self.pick()), self.fresh("f")
        if self.maybe(0.5):
            self.add("Flatten", [head.name], [top], "flatten_param { axis: 2 }")
            kind = self.rng.choice(("Scale", "ReLU", "BatchNorm"))
            self.add(kind, [top], [self.fresh("v")], self.parameters(kind))
        else:
            self.add("Reshape", [head.name], [top], "reshape_param { shape { dim: 0 dim: 0 dim: -1 dim: 1 } }")
            self.heads.append(Head(top, head.channels, (*head.places, "column")))

    def loss(self) -> None:
        """Add an InnerProduct and a loss."""
        head, channels = self.pick(), self.rng.choice((2, 3, 5))
        if self.maybe(0.5):
            pooled = self.fresh("g")
            self.add("Pooling", [head.name], [pooled], "pooling_param { pool: AVE global_pooling: true }")
            head = Head(pooled, head.channels)
        else:
            self.resizable = False
        y = self.fresh("y")
        self.add("InnerProduct", [head.name], [y], f"inner_product_param {{ num_output: {channels} {_FILLERS} }}")
        if self.maybe(0.4):
            y = self.follow(Head(y, channels), [self.rng.choice(("ReLU", "TanH", "Dropout"))]).name
        weight = "loss_weight: 0.5" if self.maybe(0.3) else ""
        if self.maybe(0.6):
            known = [name for name, classes in self.classes.items() if classes == channels]
            label = known[0] if known else self.input(self.batch)
            self.classes[label] = channels
            self.add("SoftmaxWithLoss", [y, label], [self.fresh("l")], weight)
        else:
            self.add("EuclideanLoss", [y, self.input(self.batch, channels)], [self.fresh("l")], weight)


_BLOCKS = {
    Grammar.plain_block: 4,
    Grammar.residual_block: 5,
    Grammar.siamese_block: 1.5,
    Grammar.eltwise_block: 1.5,
    Grammar.concat_block: 1.5,
    Grammar.slice_block: 1,
    Grammar.pooling_block: 2,
    Grammar.single_block: 2.5,
    Grammar.deconvolution_block: 0.7,
    Grammar.shape_block: 0.7,
    **forks.BLOCKS,
}
