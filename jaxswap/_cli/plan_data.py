"""`jaxswap plan DATA`: what training on a data set would look like on a GPU."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path

import jaxswap
from jaxswap._base.extras import named_extras
from jaxswap._cli.command import BadInputError, bad_input
from jaxswap._cli.screen import make_console

_OTHERS = ("policy", "size", "dtype", "pareto", "reserve", "no_compile")


def plan_of_data(parsed: argparse.Namespace) -> tuple[jaxswap.Plan, str]:
    """Choose shape, batch and patch for a data set, and plan its training step.

    Cases are prepared first, as `jaxswap train` does. They are kept for it.

    Args:
        parsed: The options of `jaxswap plan`.

    Returns:
        The plan, and one paragraph on what was chosen, and why.

    Raises:
        BadInputError: If the data, a setting or the budget does not fit.
    """
    for name in _OTHERS:
        if getattr(parsed, name) not in (None, False, "0"):
            option = "--" + name.replace("_", "-")
            raise BadInputError(
                f"{option} is for programs, and {parsed.program} is data."
            )
    with named_extras("medical"):
        from jaxswap.medical.runs.run_config import make_config, parse_setting
        from jaxswap.medical.runs.run_folder import RunFolder, cache_folder
        from jaxswap.medical.training.run_progress import RunProgress
        from jaxswap.medical.training.training_run import describe, load_run

    with bad_input():
        budget = parsed.budget
        if budget is None:
            memory_bytes = jaxswap.find_target(parsed.target).memory_bytes
            budget = f"{memory_bytes // 2**20}MiB"
        if budget == "smallest":
            raise ValueError("`--budget smallest` is for programs; give a size.")
        if parsed.pieces is not None:
            raise ValueError("`--pieces` is for programs; leave it out for a data set.")
        values = dict(map(parse_setting, parsed.set))
        values |= {"data": parsed.program, "device_memory": budget}
        values |= {"target": parsed.target, "host_memory": parsed.host_budget}
        given = {name: getattr(parsed, name) for name in ("slabs", "compress")}
        values |= {name: x for name, x in given.items() if x is not None}
        config = make_config(values)
        hidden = io.StringIO()
        with (
            contextlib.redirect_stderr(hidden if parsed.quiet else sys.stderr),
            tempfile.TemporaryDirectory() as nowhere,
            RunProgress(make_console(stderr=True)) as progress,
        ):
            folder = RunFolder(Path(nowhere) / "run")
            run = load_run(config, folder, cache_folder(), progress)
            assert run.planned.plan is not None
            return run.planned.plan, describe(run)
