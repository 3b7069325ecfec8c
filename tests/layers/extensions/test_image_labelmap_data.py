"""ImageLabelmapData: maps of edges; what it has in common with others is in test_dense_image_data.py."""

import numpy as np
import pytest

from helpers.label_maps import MAPS, layer, save
from helpers.readers import batches

pytestmark = pytest.mark.layers("ImageLabelmapData")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save()


def test_edges_are_binary():
    ((_, maps),) = batches(*layer("ImageLabelmapData", batch=5), 1)
    np.testing.assert_array_equal(maps, MAPS[:, None] >= 128)
