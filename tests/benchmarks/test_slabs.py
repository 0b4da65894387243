"""The study of slabs: one tiny case, and the table of what was compiled."""

import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

from benchmarks import slabs
from benchmarks.slabs import Case, main, measure


def two_layers() -> tuple[slabs.Loss, slabs.Args]:
    """Return a loss of two convolutions."""

    def loss(kernels: jax.Array, x: jax.Array) -> jax.Array:
        for kernel in kernels:
            x = jnp.tanh(jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME"))
        return jnp.sum(x)

    kernels = jax.ShapeDtypeStruct((2, 4, 4, 3, 3), jnp.float32)
    return loss, (kernels, jax.ShapeDtypeStruct((1, 4, 256, 64), jnp.float32))


def test_a_case_is_planned_for_its_goal() -> None:
    row = measure(Case(two_layers, share=0.7), "h100", is_compiled=False)
    assert row["device_bytes"] <= row["budget_bytes"]
    assert row["budget_bytes"] == int(0.7 * row["plain_temp_bytes"])
    assert row["slabs"]["levels"] == 1


def test_what_was_compiled_is_shown_beside_its_goal(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _, _, step, *_ = slabs.CASES
    given = {"budget_bytes": 2**29, "target": "h200"}
    rows = [
        {"case": step, "smallest_bytes": 13 * 2**30, **given},
        {
            "case": first,
            "slabs": {"levels": 2, "count": 24},
            "device_bytes": 2**29,
            "temp_bytes": 110,
            "plain_temp_bytes": 1000,
            "host_bytes": 2**30,
            "copied_bytes": 100,
            "exposed_bytes": 10,
            "simulated_seconds": 3.0,
            "plain_seconds": 2.0,
            **given,
        },
    ]
    path = tmp_path / "slabs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    main(["--table", "--output", str(path)])
    shown = capsys.readouterr().out.splitlines()[2:]
    assert shown == [
        f"| {first} | 2x24 | 0.50 GiB | 0.50 GiB | 0.110, 0.12 | 1.00 GiB | 10% | "
        "1.50 x |",
        f"| {step} |  | 0.50 GiB | does not fit, 13.00 GiB |  |  |  |  |",
    ]
