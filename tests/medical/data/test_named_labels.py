"""Names that the user gives to values of label files."""

import pytest

from jaxswap.medical.data.named_labels import make_named_map, parse_labels


def test_no_number_of_a_label_is_the_value_of_another():
    named = make_named_map({"a": 2000, "b": 1, "c": [3000, 2], "d": 4000})
    assert named.labels == {"b": 1, "c": 2, "a": 3, "d": 4}
    assert named.aliases == {2000: 3, 3000: 2, 4000: 4}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a": 1.5}, "`labels` has a: 1.5"),
        ({"a": []}, "one or more integers"),
        ({"a": -1}, "`labels` has a: -1"),
        ({"a": 1, "b": [2, 1]}, "gives 1 to both a and b"),
        ({"a": 0}, "0 is the background"),
        ({"background": 0}, "no label besides background"),
        ({f"l{i}": 1000 + i for i in range(256)}, "labels are 1..255"),
    ],
)
def test_labels_that_cannot_be(labels, message):
    with pytest.raises(ValueError, match=message):
        make_named_map(labels)


def test_names_come_from_the_command_line():
    assert parse_labels("{left: 17, right: [53]}") == {"left": 17, "right": [53]}
    for text in ("{}", "left", "{left: 1"):
        with pytest.raises(ValueError, match="`labels` is '"):
            parse_labels(text)
