"""The data set of `minicaffe quickstart`: CIFAR-10 if it is available within a minute, else synthetic images."""

from __future__ import annotations

import http.client
import os
import time
import urllib.request
from dataclasses import dataclass

from minicaffe.errors import DataError

_SIZE = 170_052_171  # bytes of cifar-10-binary.tar.gz
_SYNTHETIC = "synthetic images, not on CIFAR-10"
_LONGEST_DOWNLOAD = 45.0  # seconds, estimated; `minicaffe data cifar10` has no such limit


@dataclass(frozen=True)
class QuickData:
    """A prepared data set: its name, a description for the user, and the folder with its three files."""

    name: str
    description: str
    folder: str

    @property
    def train(self) -> str:
        """Path of the training LMDB."""
        return f"{self.folder}/cifar10_train_lmdb"

    @property
    def test(self) -> str:
        """Path of the test LMDB."""
        return f"{self.folder}/cifar10_test_lmdb"

    @property
    def mean(self) -> str:
        """Path of the mean image."""
        return f"{self.folder}/mean.binaryproto"

    @property
    def ready(self) -> bool:
        """Whether all three files exist."""
        return all(os.path.exists(path) for path in (self.train, self.test, self.mean))


def find_data(root: str, download: bool = True) -> QuickData:
    """Find or prepare a data set below `root`; return its description.

    The first available of: CIFAR-10 databases in root/cifar10, an archive of CIFAR-10 there, a download (if
    `download`), the synthetic data set in root/synthetic.
    """
    from minicaffe.data.datasets import cifar10, synthetic
    from minicaffe.data.datasets.records import describe

    folder = f"{root}/cifar10"
    real = QuickData("CIFAR-10", f"CIFAR-10, in {folder}", folder)
    if real.ready:
        about = describe(folder)
        return QuickData(_SYNTHETIC, f"{about} In {folder}", folder) if synthetic.is_about(about) else real
    for archive in ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz", "cifar-10-batches-bin", "cifar-10-batches-py"):
        if os.path.exists(f"{folder}/{archive}"):
            cifar10.prepare(folder, source=f"{folder}/{archive}")
            return real
    try:
        if not download:
            raise DataError("--offline")
        check_connection(cifar10.URL)
        cifar10.prepare(folder)
    except DataError as error:
        return synthetic_data(root, str(error))
    return QuickData("CIFAR-10", f"CIFAR-10, downloaded into {folder}", folder)


def check_connection(url: str, probe: int = 400_000) -> None:
    """Raise DataError if the download of CIFAR-10 would take longer than 45 s, or if there is no connection.

    The duration is estimated from the time of the first `probe` bytes.
    """
    try:
        with urllib.request.urlopen(url, timeout=4) as response:
            began = time.monotonic()
            got = len(response.read(probe))
            took = time.monotonic() - began
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
        raise DataError(f"no connection to {url.split('/')[2]} ({getattr(error, 'reason', error)})") from error
    expected = took * _SIZE / max(got, 1)
    if expected > _LONGEST_DOWNLOAD:
        raise DataError(f"the download would take about {expected / 60:.0f} minutes")


def synthetic_data(root: str, reason: str) -> QuickData:
    """Return the synthetic data set, ten classes of generated images; generate it on first use.

    reason: why CIFAR-10 is not used, for the description.
    """
    from minicaffe.data.datasets import synthetic

    folder = f"{root}/synthetic"
    description = (
        f"SYNTHETIC images, drawn by minicaffe, in {folder}. CIFAR-10 is not in {root}/cifar10 and was not "
        f"downloaded:\n      {reason}.\n"
        "      Accuracies on synthetic images do not compare with CIFAR-10's; `minicaffe data cifar10 --from ARCHIVE` "
        "prepares the real one."
    )
    data = QuickData(_SYNTHETIC, description, folder)
    if not data.ready:
        synthetic.prepare(folder)
    return data
