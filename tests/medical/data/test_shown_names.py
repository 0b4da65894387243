"""Names in pictures."""

import matplotlib.pyplot as plt
import pytest

from jaxswap.medical.data.shown_names import legend_label, short_name, show_as_written


def test_long_names_are_cut_and_short_ones_are_not():
    assert short_name("a" * 32) == "a" * 32
    assert short_name("a" * 33) == "a" * 31 + "…"


@pytest.mark.parametrize("name", [r"$\\no formula$", "$", "{x} %d <b>", "_hidden"])
def test_any_name_can_be_drawn_and_is_in_the_legend(name, tmp_path):
    figure, axes = plt.subplots()
    axes.plot([1, 2], label=legend_label(name))
    axes.set_title(name)
    shown = axes.legend().get_texts()
    show_as_written(figure)
    figure.savefig(tmp_path / "a.png")
    assert [text.get_text().strip() for text in shown] == [name]
    plt.close(figure)
