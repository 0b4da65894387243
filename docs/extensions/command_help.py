"""`jaxswap --help` -> a section for each command: the directive ``{command-help}``."""

import contextlib
import io
import os
import re
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from jaxswap._cli.main import main


def help_of(*words: str) -> str:
    """What `jaxswap WORDS --help` prints on a terminal of 88 columns."""
    printed = io.StringIO()
    terminal = mock.patch.dict(os.environ, COLUMNS="88", NO_COLOR="1")
    output = contextlib.redirect_stdout(printed)
    with terminal, output, contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return printed.getvalue()


def command_names() -> list[str]:
    """The commands that `jaxswap --help` lists."""
    (listed,) = re.findall(r"^ +\{([\w,-]+)\}$", help_of(), re.MULTILINE)[-1:]
    return listed.split(",")


class CommandHelp(SphinxDirective):
    """A section for each command, with its help as it is printed."""

    def run(self) -> list[nodes.Node]:
        """Ask each command."""
        return [_section(f"jaxswap {name}", help_of(name)) for name in command_names()]


def _section(title: str, text: str) -> nodes.section:
    section = nodes.section(ids=[nodes.make_id(title)], names=[title])
    section += nodes.title(text=title)
    section += nodes.literal_block(text, text, language="text")
    return section


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
