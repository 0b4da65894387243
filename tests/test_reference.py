"""The site is built without a warning; its reference leaves out no public name."""

import dataclasses
import fcntl
import html
import importlib
import inspect
import os
import pathlib
import pkgutil
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import jaxswap
import jaxswap.extend
import jaxswap.linen
import jaxswap.medical
import jaxswap.nnx

ROOT = pathlib.Path(__file__).parent.parent
CORE = ["jaxswap", "jaxswap.linen", "jaxswap.nnx", "jaxswap.policies", "jaxswap.extend"]
MEDICAL = [
    module.name
    for module in pkgutil.walk_packages(jaxswap.medical.__path__, "jaxswap.medical.")
    if not module.name.rpartition(".")[2].startswith("_")
]
# Those that the package's docstring sends its readers to.
MAIN = [
    name
    for name in MEDICAL
    if f"`{name.removeprefix('jaxswap.medical.')}`" in (jaxswap.medical.__doc__ or "")
]


def public(module: types.ModuleType) -> dict[str, Any]:
    """Functions and classes that a module is for; of `jaxswap`, all of its names."""
    return {
        name: value
        for name, value in ((n, getattr(module, n)) for n in dir(module))
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and (module is jaxswap or getattr(value, "__module__", "") == module.__name__)
        and (inspect.isclass(value) or inspect.isfunction(value))
    }


def names_in(modules: list[str]) -> list[tuple[str, str]]:
    return [
        (module, name)
        for module in modules
        for name in public(importlib.import_module(module))
    ]


def arguments(value: Any) -> Iterator[str]:
    """What a caller may give to a function, or to make an object of a class."""
    if inspect.isfunction(value):
        yield from inspect.signature(value).parameters
    elif dataclasses.is_dataclass(value):
        yield from (f.name for f in dataclasses.fields(value) if _is_given(f))
    else:
        yield from getattr(value, "_fields", ())


def _is_given(field: Any) -> bool:
    # Flax adds the last two to every module.
    return not field.name.startswith("_") and field.name not in ("parent", "name")


def undocumented(value: Any) -> list[str]:
    """Arguments of which the docstring says nothing."""
    text = inspect.getdoc(value) or ""
    sections = re.findall(r"^(?:Args|Attributes):\n((?:[ \n].*\n?)+)", text, re.M)
    found = set(re.findall(r"^ +\**(\w+):", "\n".join(sections), re.M))
    own = (name for name in arguments(value) if not name.startswith("_"))
    return [name for name in own if name not in found]


def public_homes() -> dict[type, str]:
    """The public name of each class that `jaxswap` or `jaxswap.extend` has."""
    homes: dict[type, str] = {}
    for module in (jaxswap, jaxswap.extend):
        for name in dir(module):
            value = getattr(module, name)
            if inspect.isclass(value) and not name.startswith("_"):
                homes.setdefault(value, f"{module.__name__}.{name}")
    return homes


def classes_in(annotation: Any) -> Iterator[type]:
    """The classes that an annotation names, such as both of `dict[int, Plan]`."""
    if inspect.isclass(annotation) and not typing.get_args(annotation):
        yield annotation
    for part in typing.get_args(annotation):
        yield from classes_in(part)


def nameless_fields(homes: dict[type, str]) -> list[str]:
    """Fields of public dataclasses whose types have no public name."""
    return [
        f"{home}.{field}: {found.__name__}"
        for value, home in homes.items()
        if dataclasses.is_dataclass(value)
        for field, annotation in typing.get_type_hints(value).items()
        for found in classes_in(annotation)
        if found.__module__.startswith("jaxswap.") and found not in homes
    ]


def made(folder: pathlib.Path) -> str:
    """Make the site as `make docs` does; return what is wrong with it."""
    flags = ["-b", "html", "-n", "-W", "--keep-going", "-q"]
    command = [sys.executable, "-m", "sphinx", *flags, str(ROOT / "docs"), str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    return done.stderr if done.returncode else ""


def shared(factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder that the processes of this run of the tests share."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """HTML of each page, by its path without the suffix.

    The process that comes first makes the site for all.
    """
    folder = shared(tmp_path_factory) / "site"
    problems = folder.with_suffix(".txt")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not problems.exists():
            problems.write_text(made(folder))
    assert problems.read_text() == ""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path.read_text()
        for path in folder.rglob("*.html")
    }


@pytest.fixture(scope="module")
def entries(pages: dict[str, str]) -> dict[str, str]:
    """Text of each entry's signature, by full name."""
    found = {}
    for page in pages.values():
        for name, html_text in re.findall(
            r'<dt class="sig[^"]*" id="([\w.]+)">(.*?)</dt>', page, re.DOTALL
        ):
            text = html.unescape(re.sub(r"<[^>]+>", "", html_text))
            found[name] = found.get(name, "") + text
    return found


def full_name(module: str, name: str) -> str:
    """Where the reference lists a name; what `jaxswap` itself has is listed there."""
    value = getattr(importlib.import_module(module), name)
    return f"{'jaxswap' if getattr(jaxswap, name, None) is value else module}.{name}"


@pytest.mark.slow
def test_reference_has_an_entry_with_arguments_for_each_public_name(
    entries: dict[str, str],
) -> None:
    names = names_in([*CORE, *MEDICAL])
    assert len(names) > 300
    lacking = []
    for module, name in names:
        full = full_name(module, name)
        signature = entries.get(full)
        if signature is None:
            lacking.append(full)
        else:
            value = getattr(importlib.import_module(module), name)
            given = arguments(value)
            lacking += [f"{full}: {a}" for a in given if a not in signature]
    assert not lacking, "name these in a page of docs/reference"


@pytest.mark.slow
def test_reference_has_an_entry_for_each_type_of_a_public_field(
    entries: dict[str, str],
) -> None:
    assert set(public_homes().values()) <= entries.keys()


def test_types_of_public_fields_have_public_names() -> None:
    homes = public_homes()
    assert len(homes) > 50
    assert not nameless_fields(homes), "export these from jaxswap.extend"


def test_a_field_whose_type_has_no_public_name_would_be_noticed() -> None:
    homes = public_homes()
    del homes[jaxswap.extend.Swap]
    assert nameless_fields(homes) == [
        "jaxswap.Plan.swaps: Swap",
        "jaxswap.extend.Draft.swaps: Swap",
        "jaxswap.extend.Schedule.swaps: Swap",
    ]


@pytest.mark.slow
def test_reference_has_an_entry_for_each_constant(entries: dict[str, str]) -> None:
    actions = {f"jaxswap.{action.name}" for action in jaxswap.Action}
    assert actions <= entries.keys()


@pytest.mark.slow
def test_reference_names_nothing_private(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        if name.startswith("reference/"):
            text = html.unescape(re.sub(r"<[^>]+>", "", page))
            assert not re.findall(r"\bjaxswap\._\w+", text), name
            text = re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)
            assert not re.findall(r'\bjaxlib\._|id="[\w.]*\._\w+"', text), name
            assert not re.findall(r"\bjaxswap\._\w+", text), name


@pytest.mark.slow
def test_reference_renders_docstrings_as_sections_and_code(
    pages: dict[str, str],
) -> None:
    page = pages["reference/planning"]
    for text in (">Parameters<", ">Returns<", ">Raises<", ">Example<", ">References<"):
        assert text in page
    for name, text in pages.items():
        prose = re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)
        left = r"&gt;&gt;&gt; |<p>(Args|Returns|Raises|Example|References|Attributes):"
        assert not re.search(left, prose), name
        if name.startswith("reference/"):
            assert "`" not in prose, name


@pytest.mark.slow
def test_site_has_every_command_and_every_notebook(pages: dict[str, str]) -> None:
    for command in ("plan", "inspect", "targets", "calibrate", "train", "predict"):
        assert f"usage: jaxswap {command}" in pages["reference/commands"]
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert "cell_output" in pages[f"tutorials/{notebook.stem}"]


@pytest.mark.parametrize(("module", "name"), names_in([*CORE, *MAIN]))
def test_docstring_names_every_argument(module: str, name: str) -> None:
    assert not undocumented(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(("module", "name"), names_in(CORE))
def test_docstring_has_an_example(module: str, name: str) -> None:
    assert ">>> " in (getattr(importlib.import_module(module), name).__doc__ or "")


@pytest.mark.parametrize("name", jaxswap.policies.PUBLISHED + jaxswap.policies.JAX_OWN)
def test_docstring_of_a_published_policy_names_its_source(name: str) -> None:
    text = inspect.getdoc(getattr(jaxswap.policies, name)) or ""
    assert re.search(r"^References:\n +\S", text, re.M)


def test_what_the_package_sends_its_readers_to_exists() -> None:
    named = re.findall(r"`([a-z_.]+)`", (jaxswap.medical.__doc__ or ""))
    assert set(named) <= {name.removeprefix("jaxswap.medical.") for name in MEDICAL}
    assert len(MAIN) > 20


def documented(first: int, second: int) -> None:
    """Add.

    Args:
        first: a number.
    """


@dataclasses.dataclass
class Documented:
    """Hold.

    Attributes:
        first: a number.
    """

    first: int
    second: int


@pytest.mark.parametrize("value", [documented, Documented])
def test_a_missing_argument_would_be_noticed(value: Any) -> None:
    assert undocumented(value) == ["second"]
