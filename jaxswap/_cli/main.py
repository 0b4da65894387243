"""The command `jaxswap`.

Exit codes: 0 done, 1 failed while running, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Sequence

from jaxswap._base.errors import JaxswapError
from jaxswap._base.extras import named_extras
from jaxswap._base.version import __version__
from jaxswap._cli.calibrate import add_calibrate
from jaxswap._cli.check import add_check
from jaxswap._cli.command import ExitCode, tell
from jaxswap._cli.compare import add_compare
from jaxswap._cli.demo import add_demo
from jaxswap._cli.evaluate import add_evaluate
from jaxswap._cli.inspect import add_inspect
from jaxswap._cli.plan import add_plan
from jaxswap._cli.predict import add_predict
from jaxswap._cli.screen import write_any_text
from jaxswap._cli.synth import add_synth
from jaxswap._cli.targets import add_targets
from jaxswap._cli.train import add_train

_NO_ROOM = "failed to map segment"
CORE = (add_plan, add_inspect, add_targets, add_calibrate)
MEDICAL = (add_check, add_train, add_predict, add_evaluate, add_synth, add_compare)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the command's name. None: those from the shell.

    Returns:
        The exit code.
    """
    write_any_text()
    parsed, unknown = _parser().parse_known_args(arguments)
    if unknown:
        return _fail(_unknown(parsed, unknown), ExitCode.BAD_INPUT)
    try:
        with named_extras(getattr(parsed, "extra", "")):
            return parsed.run(parsed)
    except KeyboardInterrupt:
        return _fail("interrupted.", ExitCode.INTERRUPTED)
    except JaxswapError as error:
        return _fail(str(error), ExitCode.BAD_INPUT)
    except (OSError, FloatingPointError) as error:
        return _fail(str(error), ExitCode.FAILED)
    except (MemoryError, ImportError) as error:
        # A library that memory cannot hold is no fault of an installation.
        if isinstance(error, ImportError) and _NO_ROOM not in str(error):
            raise
        told = f"{error}: " if str(error) else ""
        return _fail(
            f"{told}there is too little memory (see `ulimit -v`).", ExitCode.FAILED
        )


@functools.cache
def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxswap",
        description="Train models whose activations do not fit in GPU memory.",
    )
    parser.add_argument("--version", action="version", version=f"jaxswap {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True)
    for add in (add_demo, *CORE, *MEDICAL):
        add(commands)
    return parser


def _unknown(parsed: argparse.Namespace, words: list[str]) -> str:
    """Say which words a command does not know, and how a setting is written."""
    settings = [f"--set {word}" for word in words if re.match(r"[a-z_]+=", word)]
    hint = f" Write {' '.join(settings)}." if settings and "set" in parsed else ""
    command = parsed.command
    return f"{command} does not know {' '.join(words)}.{hint} See jaxswap {command} -h."


def _fail(message: str, code: ExitCode) -> int:
    tell(f"jaxswap: {' '.join(message.split())}")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
