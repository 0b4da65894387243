"""What a report, a page and pictures say of slabs."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

import jaxswap
from jaxswap import Slabs
from jaxswap._view.lanes import lanes_of, plan_spans
from jaxswap._view.slabs import slab_lines, sweep_lines, sweep_table
from jaxswap._view.sweep_rows import slab_data, sweep_rows

X = jax.ShapeDtypeStruct((1, 64, 16, 2), jnp.float32)
NETWORK = nn.Sequential([nn.Conv(4, (3, 3)), nn.tanh, nn.Conv(2, (3, 3)), nn.tanh])


def loss(variables: Any, x: Any) -> jax.Array:
    y: Any = NETWORK.apply(variables, x)
    return jnp.mean(y**2) + 1e-9 * jnp.sum(jnp.cumsum(y, axis=1))


def planned(slabs: Slabs | None) -> jaxswap.Plan:
    variables = jax.eval_shape(NETWORK.init, jax.random.key(0), X)
    return jaxswap.plan(
        loss,
        variables,
        X,
        target="h100",
        compile=False,
        progress=False,
        slabs=slabs,
    )


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> jaxswap.Plan:
    made = planned(Slabs(4, levels=2, axis=1, recomputed=0, swapped=0))
    # What is shown is in the file of a plan, too.
    return jaxswap.load_plan(made.save(tmp_path_factory.mktemp("plan") / "plan.json"))


def test_sweeps_say_what_each_reads_makes_and_sums(plan: jaxswap.Plan) -> None:
    first, *_, last = sweep_rows(plan)
    assert "layers_0" in {made.name for made in first.writes}
    assert not first.is_backward
    (read,) = first.reads
    assert read.planes == "16+2+2"
    assert read.nbytes == 64 * 16 * 2 * 4 * 20 // 16
    assert first.written_bytes == 64 * 16 * (4 + 2) * 4
    assert last.is_backward
    assert "d layers_0" in {made.name for made in last.sums}
    assert sum(row.seconds for row in sweep_rows(plan)) <= plan.seconds
    assert all(row.seconds > 0 for row in sweep_rows(plan))


def test_a_report_has_a_line_for_each_sweep(plan: jaxswap.Plan) -> None:
    cut, made, whole = slab_lines(plan)
    assert cut == "4 of 16 planes along dimension 1 of 64, on 2 levels"
    rows = sweep_rows(plan)
    assert made.startswith(f"{len(rows)} sweeps over all slabs take ")
    assert whole.startswith("on whole arrays: cumsum: sums up what lies ")
    text = str(plan)
    table = list(sweep_lines(plan))
    assert "\n".join(table) in text
    assert all(any(row.name in line for line in table) for row in rows)
    assert max(map(len, text.splitlines())) <= 110


def test_a_page_and_its_data_have_the_sweeps(plan: jaxswap.Plan) -> None:
    page = plan.to_html()
    assert sweep_table(plan) in page
    assert sweep_table(plan).count("<td>sweep") == len(sweep_rows(plan))
    assert "sweep over all slabs: " in page  # A bar of the chart.
    found = json.loads(json.dumps(plan.summary()))["slabs"]
    assert found == slab_data(plan)
    assert (found["slab_count"], found["thickness"], found["length"]) == (4, 16, 64)
    window = found["sweeps"][0]["reads"][0]
    assert (window["start"], window["stop"], window["pitch"]) == (-2, 18, 16)


def test_sweeps_have_a_lane(plan: jaxswap.Plan) -> None:
    spans = [span for span in plan_spans(plan) if span.kind == "sweep"]
    assert len(spans) == len(sweep_rows(plan))
    assert lanes_of(spans)[-1] == "sweeps"
    axes = plan.plot().axes[2]
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "sweeps"


@pytest.mark.usefixtures("own_folders")
def test_a_plan_without_slabs_shows_none() -> None:
    plan = planned(None)
    assert slab_data(plan) is None
    assert [*slab_lines(plan), *sweep_lines(plan)] == []
    assert sweep_table(plan) == ""
    assert "sweeps" not in lanes_of(plan_spans(plan))
