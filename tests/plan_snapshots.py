"""Plans of the benchmark programs, written as text, to compare two versions of jaxswap.

    python tests/plan_snapshots.py before.json     on the one version
    python tests/plan_snapshots.py after.json      on the other
    cmp before.json after.json

A search counts its drafts and no time. So the plans of two versions are equal, byte for
byte, if and only if both decide alike. Nothing is compiled.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import jaxswap
from benchmarks.programs import PROGRAMS, TINY

PLAIN_BYTES = {
    "mlp": 1946157260,
    "unet3d-128-bf16": 1282178992,
    "unet3d-192-bf16": 4163930032,
    "unet3d-192-fp32": 8959817648,
    "transformer-unrolled": 31351223100,
    "transformer-scanned": 40708553972,
    "resnet50-512": 29620881764,
}
"""Device memory of the plain step, compiled for an H100 (`planner.jsonl`)."""
SHARES = (0.65, 0.5, 0.33)
TINY_BUDGET = "smallest"


def snapshot(plan: jaxswap.Plan) -> dict[str, Any]:
    """What is decided and predicted."""
    loops = [
        [a.value[0] for segment in loop.segments for a in segment.actions]
        for loop in plan.loops
    ]
    return {
        "actions": "".join(action.value[0] for action in plan.actions),
        "loops": ["".join(letters) for letters in loops],
        "swaps": [dataclasses.asdict(swap) for swap in plan.swaps],
        "device_bytes": plan.device_bytes,
        "host_bytes": plan.host_bytes,
        "seconds": repr(float(plan.seconds)),
        "plain_seconds": repr(float(plan.plain.seconds)),
    }


def planned(programs: Any, name: str, budget: int | str) -> dict[str, Any]:
    """Plan for one budget, or say what the refusal says."""
    loss, args = programs[name]()
    try:
        plan = jaxswap.plan(
            loss, *args, budget=budget, target="h100", compile=False, progress=False
        )
    except jaxswap.BudgetError as error:
        return {"smallest_bytes": error.smallest_bytes}
    return snapshot(plan)


def main() -> None:
    """Write all plans to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--tiny", action="store_true", help="small programs alone")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    cases: list[tuple[Any, str, int | str, str]] = [
        (TINY, name, TINY_BUDGET, f"tiny {name} {TINY_BUDGET}") for name in TINY
    ]
    for name, nbytes in PLAIN_BYTES.items() if not options.tiny else ():
        for share in SHARES:
            cases.append((PROGRAMS, name, int(share * nbytes), f"{name} {share:.0%}"))
    for programs, name, budget, label in cases:
        found[label] = planned(programs, name, budget)
        options.output.write_text(json.dumps(found, indent=1) + "\n")
        sys.stderr.write(f"{label}\n")


if __name__ == "__main__":
    main()
