"""The command `jaxswap`.

Exit codes: 0 done, 1 something failed while running, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from jaxswap._cli.check import add_check
from jaxswap._cli.commands import (
    BadInputError,
    add_calibrate,
    add_inspect,
    add_plan,
    add_targets,
)
from jaxswap._cli.compare import add_compare
from jaxswap._cli.demo import add_demo
from jaxswap._cli.evaluate import add_evaluate
from jaxswap._cli.predict import add_predict
from jaxswap._cli.synth import add_synth
from jaxswap._cli.train import add_train

MEDICAL = (add_check, add_train, add_predict, add_evaluate, add_synth, add_compare)

_DONE, _FAILED, _BAD_INPUT, _INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the command's name; None takes them from the shell.

    Returns:
        The exit code.
    """
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.run(parsed)
    except KeyboardInterrupt:
        return _fail("interrupted.", _INTERRUPTED)
    except BadInputError as error:
        return _fail(str(error), _BAD_INPUT)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        # The medical commands check what they are given as they come to it.
        if parsed.run.__module__ not in {add.__module__ for add in MEDICAL}:
            raise
        return _fail(str(error), _BAD_INPUT)
    except (OSError, FloatingPointError) as error:
        return _fail(str(error), _FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxswap",
        description="Train models whose activations do not fit in GPU memory.",
    )
    parser.add_argument("--version", action="version", version=f"jaxswap {_version()}")
    commands = parser.add_subparsers(title="commands", required=True)
    for add in (add_demo, add_plan, add_inspect, add_targets, add_calibrate):
        add(commands)
    for add in MEDICAL:
        add(commands)
    return parser


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"jaxswap: {line}\n")
    return code


def _version() -> str:
    try:
        return version("jaxswap")
    except PackageNotFoundError:
        return "unknown (not installed)"


if __name__ == "__main__":
    raise SystemExit(main())
