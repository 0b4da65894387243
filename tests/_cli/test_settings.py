"""Every setting of a run is told, with its meaning, type and default."""

import dataclasses
from typing import Any

import pytest
import yaml

from jaxswap._cli.main import main
from jaxswap._cli.settings import settings_of, settings_text
from jaxswap.medical.preparing.augment_config import AugmentConfig
from jaxswap.medical.runs.run_config import RunConfig


@pytest.mark.parametrize("config", [RunConfig, AugmentConfig])
def test_each_field_is_told_with_its_default(config: Any) -> None:
    told = settings_of(config.__module__, config.__name__)
    fields = dataclasses.fields(config)
    assert [setting.name for setting in told] == [field.name for field in fields]
    for setting, field in zip(told, fields, strict=True):
        assert setting.meaning.endswith(".")
        assert "None" not in setting.meaning + setting.type
        if setting.default not in (None, "see below"):
            default: Any = field.default
            if default is dataclasses.MISSING:
                default = field.default_factory()  # type: ignore[misc]
            given = yaml.safe_load(setting.default)
            assert (tuple(given) if isinstance(given, list) else given) == default


def test_types_are_told_in_words() -> None:
    told = {s.name: s for s in settings_of(RunConfig.__module__, "RunConfig")}
    assert told["fold"].type == "integer or all"
    assert told["patch"].type == "integer"
    assert told["spacing_mm"].type == "three numbers"
    assert told["data"].default is None


@pytest.mark.parametrize("width", [60, 120])
def test_lines_fit_the_terminal(width: int) -> None:
    lines = settings_text(width).splitlines()
    assert max(map(len, lines)) <= width


def test_the_help_of_training_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: jaxswap train")
    assert "\n  accumulate: integer, default 1\n" in out
    assert "\n  gamma_probability: number, default 0.3\n" in out
