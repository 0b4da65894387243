"""Pictures of labels over an image."""

import numpy as np
import pytest

from jaxswap.medical.data.volumes import Volume
from jaxswap.medical.scoring.overlay import save_overlay


def test_a_picture_is_written_whole(tmp_path):
    labels = np.zeros((8, 10, 12), np.uint8)
    labels[2:6, 3:7, 4:9] = 2
    image = Volume.from_array(labels * 10.0, np.diag([1.0, 1.0, 3.0, 1.0]))
    path = tmp_path / "new" / "overlay.png"
    assert save_overlay(path, image, labels, labels, ("a", "b")) == path
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "new").iterdir()) == [path]


def test_pictures_of_other_shapes_are_refused(tmp_path):
    labels = np.zeros((4, 4, 4), np.uint8)
    image = Volume.from_array(np.zeros((4, 4, 5)), np.eye(4))
    with pytest.raises(ValueError, match="differ in shape"):
        save_overlay(tmp_path / "a.png", image, labels, labels, ("a",))
    assert list(tmp_path.iterdir()) == []
