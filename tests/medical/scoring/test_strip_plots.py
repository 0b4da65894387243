"""Strips of dots: where they lie, and that names are shown as they are."""

import re
from xml.etree import ElementTree

import pytest

from jaxswap.medical.scoring.strip_plots import strip_plot


def _dots(svg):
    """Position and title of each dot."""
    return {
        dot.findtext("title", "").split(":")[0]: float(dot.get("cx", "nan"))
        for dot in ElementTree.fromstring(svg).iter("circle")
    }


def _ticks(svg):
    return {
        text: float(x)
        for x, text in re.findall(r'"middle" x="([\d.]+)"[^>]*>([^<]+)', svg)
    }


@pytest.mark.parametrize(
    ("bounds", "values"),
    [
        ("unit", {"a": 0.0, "b": 0.2, "c": 1.0}),
        ("positive", {"a": 0.0, "b": 1.0, "c": 20.0}),
        ("positive", {"a": 0.0, "b": 0.5, "c": 0.05}),
        ("signed", {"a": -100.0, "b": 0.0, "c": 10.0}),
        ("signed", {"a": 0.0}),
        ("positive", {}),
    ],
)
def test_dots_lie_at_the_ticks_of_their_values(bounds, values):
    svg = strip_plot({"row": list(values.items())}, bounds=bounds)
    dots, ticks = _dots(svg), _ticks(svg)
    assert dots.keys() == values.keys()
    order = sorted(values, key=lambda name: values[name])
    assert order == sorted(dots, key=lambda name: dots[name])
    for name, value in values.items():
        assert min(ticks.values()) <= dots[name] <= max(ticks.values())
        if f"{value:g}" in ticks:
            assert dots[name] == pytest.approx(ticks[f"{value:g}"], abs=0.1)


def test_outliers_do_not_squeeze_the_rest():
    dots = _dots(strip_plot({"r": [("a", 1), ("b", 3), ("c", 373)]}, bounds="positive"))
    assert dots["b"] - dots["a"] > 40


def test_ticks_of_large_values_are_few():
    svg = strip_plot({"r": [("a", 373.13)]}, bounds="positive")
    assert list(_ticks(svg)) == "0 1 2 5 10 20 50 100 200 500".split()


def test_names_are_escaped():
    svg = strip_plot({"<b>&": [("<i>", 0.5)]}, bounds="unit")
    assert "<b>" not in svg
    assert "<i>" not in svg
    assert _dots(svg) == {"<i>": pytest.approx(_dots(svg)["<i>"])}


def test_each_row_has_its_name_box_and_median():
    svg = strip_plot({"a": [("x", 0.1), ("y", 0.3)], "b": []}, bounds="unit")
    assert svg.count('class="box"') == svg.count('class="median"') == 1
    assert re.findall(r'class="end">([^<]+)', svg) == ["a", "b"]


def test_unknown_bounds_are_refused():
    with pytest.raises(ValueError, match="`bounds` is 'log'"):
        strip_plot({"a": [("x", 1.0)]}, bounds="log")
