"""What labels mean, read from the JSON files that say it."""

import json

import pytest

from jaxswap.medical.data.label_maps import LABEL_MAPS, make_label_map
from jaxswap.medical.data.labels_json import (
    from_plain,
    meaning_near,
    read_meaning,
    to_plain,
)

_EDEMA = {"edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}


def _write(path, **content):
    path.write_text(json.dumps(content))
    return path


def test_each_kind_of_file_is_understood(tmp_path):
    plain = _write(tmp_path / "plain.json", labels={"background": 0, "cyst": 4})
    assert dict(read_meaning(plain).regions) == {"cyst": (4,)}
    regions = {"background": 0, "whole": [1, 2], "core": 2}
    nnunet = _write(
        tmp_path / "nnunet.json", labels=regions, regions_class_order=[1, 2]
    )
    assert dict(read_meaning(nnunet).regions) == {"whole": (1, 2), "core": (2,)}
    listed = {"modality": {"0": "FLAIR"}, "training": []}
    decathlon = _write(tmp_path / "decathlon.json", labels=_EDEMA, **listed)
    assert read_meaning(decathlon) is LABEL_MAPS["msd-task01"]
    same_of_nnunet = _write(tmp_path / "converted.json", labels=_EDEMA)
    assert read_meaning(same_of_nnunet).is_exclusive
    of_run = _write(tmp_path / "data.json", label_map=to_plain(LABEL_MAPS["brats2023"]))
    assert read_meaning(of_run) == LABEL_MAPS["brats2023"] == read_meaning(tmp_path)


def test_a_map_is_the_same_after_writing_and_reading():
    for label_map in (*LABEL_MAPS.values(), make_label_map("own", {"a": 1, "b": 7})):
        assert from_plain(json.loads(json.dumps(to_plain(label_map)))) == label_map


def test_a_description_without_labels_is_none_at_all(tmp_path):
    assert meaning_near(tmp_path) is None
    _write(tmp_path / "dataset.json", reference="plans.json")
    assert meaning_near(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"plans": 1}, "has no `labels`, such as"),
        ({"labels": {"a": "b"}}, "`labels` has 'a': 'b'"),
        ({"labels": {"a": [1, 2]}}, "so give `regions_class_order`"),
        ({"labels": {"a": 1, "ignore": 2}}, "ignore label, which is not supported"),
        (
            {"label_map": {"name": "x"}},
            "`label_map` has fields missing or unknown: 'is_exclusive', 'labels', 'r",
        ),
    ],
)
def test_a_file_that_does_not_say_it_is_refused_by_name(tmp_path, content, message):
    path = _write(tmp_path / "labels.json", **content)
    with pytest.raises(ValueError, match=rf"labels\.json: .*{message}"):
        read_meaning(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.json: no such file"):
        read_meaning(tmp_path / "gone.json")
