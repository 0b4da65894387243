"""Arrays in files, opened only where they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class StoredArray:
    """An array in an uncompressed `.npy` file.

    If it is passed to another process, only the name of its file is passed.

    Attributes:
        path: The file.
    """

    path: Path

    def open(self) -> np.ndarray:
        """Map the file into memory. Only what is used is read."""
        return np.load(self.path, mmap_mode="r")


def store_reference(array: np.ndarray) -> np.ndarray | StoredArray:
    """Replace an array that maps a whole file by a reference to this file."""
    if not isinstance(array, np.memmap) or array.filename is None:
        return array
    stored = StoredArray(Path(array.filename))
    return stored if stored.open().shape == array.shape else array


def open_array(array: np.ndarray | StoredArray) -> np.ndarray:
    """Return the array itself. Open it if it is a reference."""
    return array.open() if isinstance(array, StoredArray) else array
