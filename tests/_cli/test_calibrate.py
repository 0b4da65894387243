"""`jaxswap calibrate` where there is no GPU."""

from pathlib import Path

import pytest
from command_line import Capture, refused

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("options", [[], ["--quick"], ["--like", "h100"], ["--json"]])
def test_calibrate_needs_a_gpu(
    tmp_path: Path, capsys: Capture, options: list[str]
) -> None:
    line = refused(capsys, "calibrate", *options)
    assert "calibrate needs a GPU, and the device is" in line
    assert "(cpu)" in line
    assert not (tmp_path / "home").exists()
