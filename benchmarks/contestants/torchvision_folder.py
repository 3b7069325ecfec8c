"""A folder of images through a net of PyTorch, with torchvision's transforms and a DataLoader of two workers.

    python -m contestants.torchvision_folder '{"net": "deploy.prototxt", ...}'

The settings are those of `Settings`.  It prints a line of JSON: images, seconds from the first image to the last row
written, and seconds of the whole process since its first import.
"""

from __future__ import annotations

import time

_BEGAN = time.perf_counter()

import glob  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

import numpy as np  # noqa: E402

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import torch  # noqa: E402
import torchvision  # noqa: E402
from torchvision.transforms import v2  # noqa: E402


class Settings(NamedTuple):
    """What to run: files, sizes in pixels, and how PyTorch is used."""

    net: str
    weights: str  #: .npz of the parameters, LAYER/INDEX
    folder: str
    output: str
    count: int
    size: list[int]  #: height and width to resize to
    crop: int
    mean: list[float]
    batch: int
    threads: int
    channels_last: bool
    decoder: str  #: "pillow", as of ImageFolder, or "torchvision", its decoder of JPEGs

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


class Folder(torch.utils.data.Dataset):
    """The images of a folder as uint8 (3, crop, crop); they are converted to floats by batch, which is less to copy."""

    def __init__(self, settings: Settings) -> None:
        self.paths = sorted(glob.glob(os.path.join(glob.escape(settings.folder), "*.jpg")))[: settings.count]
        self.decoder = settings.decoder
        self.transform = v2.Compose([v2.Resize(settings.size), v2.CenterCrop(settings.crop), v2.ToImage()])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        path = self.paths[index]
        if self.decoder == "torchvision":
            return self.transform(torchvision.io.read_image(path, torchvision.io.ImageReadMode.RGB))
        from PIL import Image

        with Image.open(path) as image:
            return self.transform(image.convert("RGB"))


def make_net(settings: Settings) -> torch.nn.Module:
    """Return the net with the given parameters, in inference."""
    from contestants.torch_nets import TorchNet
    from minicaffe.proto import read_net

    param = read_net(settings.net)
    net = TorchNet(param, (1, 3, settings.crop, settings.crop))
    with np.load(settings.weights) as file:
        parameters = dict(file)
    params: dict[str, list[np.ndarray]] = {}
    for key in sorted(parameters):
        params.setdefault(key.rpartition("/")[0], []).append(parameters[key])
    net.load(params)
    for name, part in net.parts.items():
        if isinstance(part, torch.nn.BatchNorm2d):
            mean, variance, factor = params[name]
            part.running_mean.copy_(torch.from_numpy(mean / factor))
            part.running_var.copy_(torch.from_numpy(variance / factor))
    return net.eval().to(memory_format=settings.memory_format)


def run(settings: Settings) -> dict[str, Any]:
    """Run all images and write the scores; return the figures."""
    torch.set_num_threads(settings.threads)
    net = make_net(settings)
    began = time.perf_counter()
    data = Folder(settings)
    loader = torch.utils.data.DataLoader(data, settings.batch, num_workers=2, prefetch_factor=2)
    mean, rows = torch.tensor(settings.mean)[:, None, None], []
    with torch.inference_mode():
        for images in loader:
            batch = images.flip(1).to(torch.float32, memory_format=settings.memory_format).sub_(mean)
            rows.append(torch.softmax(net(batch).flatten(1), 1).numpy())
    np.savez(settings.output, filename=np.array(data.paths), prob=np.concatenate(rows))
    now = time.perf_counter()
    return {"images": len(data), "seconds": now - began, "process": now - _BEGAN}


if __name__ == "__main__":
    print(json.dumps(run(Settings(**json.loads(sys.argv[1])))))
