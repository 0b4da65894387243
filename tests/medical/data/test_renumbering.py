"""Labels in the numbers of another edition, by the names of regions."""

import numpy as np
import pytest

from jaxswap.medical.data.label_maps import LABEL_MAPS, make_label_map
from jaxswap.medical.data.renumbering import renumber


@pytest.mark.parametrize(
    ("source", "target", "numbers"),
    [
        ("brats2021", "brats2023", {0: 0, 1: 1, 2: 2, 4: 3}),
        ("brats2023", "brats2021", {0: 0, 1: 1, 2: 2, 3: 4}),
        ("brats2021", "msd-task01", {0: 0, 1: 2, 2: 1, 4: 3}),
        ("brats2021", "brats2024-gli", {0: 0, 1: 1, 2: 2, 4: 3}),
    ],
)
def test_the_number_is_that_of_the_edition(source, target, numbers):
    labels = np.array([list(numbers)], np.uint8)
    found = renumber(labels, LABEL_MAPS[source], LABEL_MAPS[target])
    assert found.dtype == np.uint8
    assert found.tolist() == [list(numbers.values())]


def test_regions_without_a_number_are_refused():
    tissue = make_label_map("tissue", {"grey": 1})
    with pytest.raises(ValueError, match="brats2021, which has no grey; the network"):
        renumber(np.zeros(2, np.uint8), tissue, LABEL_MAPS["brats2021"])
