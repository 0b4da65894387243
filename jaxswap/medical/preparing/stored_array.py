"""Arrays in files, opened where they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class StoredArray:
    """An array in an uncompressed `.npy` file.

    Passing one to another process passes the name of its file, not its content.

    Attributes:
        path: The file.
    """

    path: Path

    def open(self) -> np.ndarray:
        """Map the file into memory; only what is looked at gets read."""
        return np.load(self.path, mmap_mode="r")


def store_reference(array: np.ndarray) -> np.ndarray | StoredArray:
    """Replace an array that maps a whole file by a reference to the file."""
    if not isinstance(array, np.memmap) or array.filename is None:
        return array
    stored = StoredArray(Path(array.filename))
    return stored if stored.open().shape == array.shape else array


def open_array(array: np.ndarray | StoredArray) -> np.ndarray:
    """The array itself, opened if it is a reference."""
    return array.open() if isinstance(array, StoredArray) else array
