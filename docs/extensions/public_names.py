"""Python objects -> entries and links under the names that users import.

* `jaxswap.Plan` is written in `jaxswap._plans.plan`; the site shows its public name.
* Code such as `jaxswap.plan(...)`, in a docstring or in a page, links to its entry. A
  public name of jaxswap without an entry is a warning, and a warning is an error.
* The directive ``{modules} jaxswap.medical.data`` makes the entries of a package.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

import jaxswap
import jaxswap.extend

CODE = re.compile(r"(?P<name>jaxswap(\.[a-zA-Z]\w*)+)(\(.*\))?", re.DOTALL)

UNREADABLE = re.compile(r"<(class|factory|function|[\w.]+ object)[^<>]*>")


def give_public_home(module: Any) -> None:
    """Let objects from private modules say that they live in the public one."""
    # Asked for by name: `jaxswap` loads its names when the first one is asked for.
    for value in (getattr(module, name) for name in dir(module)):
        if callable(value) and _home(value).startswith("jaxswap._"):
            value.__module__ = module.__name__


def _home(value: Any) -> str:
    return getattr(value, "__module__", None) or ""


def public_modules(package: Any) -> Iterator[str]:
    """Names of the modules right inside a package that have no underscore."""
    for found in pkgutil.iter_modules(package.__path__):
        if not found.name.startswith("_") and not found.ispkg:
            yield found.name


class Modules(SphinxDirective):
    """What a package is for, and a section with the entries of each of its modules."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Let autodoc write each module."""
        name = self.arguments[0]
        package = importlib.import_module(name)
        found: list[nodes.Node] = []
        found.append(nodes.paragraph(text=package.__doc__ or ""))
        for module in public_modules(package):
            section = nodes.section(ids=[module], names=[module])
            section += nodes.title(text=module)
            source = f"{name}.{module}"
            lines = ["```{eval-rst}", f".. automodule:: {source}", "```"]
            self.state.nested_parse(StringList(lines, source=source), 0, section)
            found.append(section)
        return found


class LinkNames(SphinxTransform):
    """Turn code that is a public name of jaxswap into a link to its entry."""

    default_priority = 5  # before references are resolved

    def apply(self, **kwargs: Any) -> None:
        """Put each such piece of code into a reference."""
        for code in list(self.document.findall(nodes.literal)):
            found = CODE.fullmatch(code.astext())
            if found and not isinstance(code.parent, addnodes.pending_xref):
                target = {"refdomain": "py", "reftype": "obj", "refwarn": True}
                link = addnodes.pending_xref("", reftarget=found["name"], **target)
                link.source, link.line = code.source, code.line
                code.replace_self(link)
                link += code


def leave_out(
    app: Sphinx, kind: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what Python itself writes of the fields of a named tuple."""
    text = getattr(value, "__doc__", None) or ""
    return True if text.startswith("Alias for field number") else None


def part_code_from_letters(
    app: Sphinx, kind: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Let code end where its backtick stands, also in "`Swap`s"."""
    text = re.sub(r"((`+)[^`]+\2)(?=(\w)?)", _parted, "\n".join(lines))
    lines[:] = text.split("\n")


def _parted(code: re.Match[str]) -> str:
    return code[1] + ("\\ " if code[3] else "")


def tidy_signature(
    app: Sphinx,
    kind: str,
    name: str,
    value: Any,
    options: Any,
    signature: str | None,
    returned: str | None,
) -> tuple[str, str | None] | None:
    """Write `...` for a default without readable text; leave out what Flax adds."""
    if signature is None:
        return None
    own = re.sub(r", parent: [^=]*= <[^<>]*>, name: str \| None = None", "", signature)
    return UNREADABLE.sub("...", own.replace("<lambda>", "lambda")), returned


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    for module in (jaxswap, jaxswap.extend):
        give_public_home(module)
    # One signature with every argument, as the docstring has it, not one by overload.
    overloads = property(lambda analyzer: {}, lambda analyzer, found: None)
    setattr(ModuleAnalyzer, "overloads", overloads)  # noqa: B010
    app.add_directive("modules", Modules)
    app.add_transform(LinkNames)
    app.connect("autodoc-skip-member", leave_out)
    app.connect("autodoc-process-signature", tidy_signature)
    app.connect("autodoc-process-docstring", part_code_from_letters)
    return {"parallel_read_safe": True}
