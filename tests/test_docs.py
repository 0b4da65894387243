"""README and docs are in shape: short, links lead somewhere, code and commands work."""

import contextlib
import functools
import importlib.util
import io
import pathlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import pytest
from house_rules import FLOORS

import jaxswap
import jaxswap.extend
from jaxswap._cli.main import main
from jaxswap._compat import refuse_wrong_jaxlib
from jaxswap._scheduler import refuse_wrong_slices

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
MAX_README_LINES = 120
# Words that once stood for what has a plainer name; see docs/glossary.md.
RIDDLES = re.compile(r"\b(replay\w*|remak\w*|fates?|in vain|put off|at hand|lest)\b")


def name_of(page: pathlib.Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def links(text: str) -> list[str]:
    """Where links and pictures of a page lead, other sites aside."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def broken_links(page: pathlib.Path, text: str) -> list[str]:
    """Links and paths between backticks that lead to no file."""
    paths = re.findall(r"`((?:jaxswap|tests|docs|benchmarks)/[\w./-]*)`", text)
    broken = [link for link in links(text) if not (page.parent / link).exists()]
    return broken + [path for path in paths if not (ROOT / path).exists()]


def commands(text: str) -> Iterator[str]:
    """Commands of a page, in blocks without a language and between backticks."""
    lines = "".join(code_blocks(text, "")).replace("\\\n", " ").splitlines()
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for line in [*lines, *re.findall(r"`([^`\n]+)`", prose)]:
        command = line.partition("#")[0].strip()
        if re.match(r"(jaxswap|make)(\s|$)|python -m benchmarks", command):
            yield command


@functools.cache
def help_of(command: str) -> str:
    """What `jaxswap COMMAND --help` prints; empty if there is no such command."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            main([command, "--help"])
        except SystemExit as done:
            return "" if done.code else printed.getvalue()
    return ""


def lacking(command: str) -> list[str]:
    """What a command names that does not exist."""
    tool, *words = command.split()
    options = [w.partition("=")[0] for w in words if re.match(r"--[a-z]", w)]
    if tool == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        return [w for w in words if w.islower() and "=" not in w and w not in targets]
    if tool == "jaxswap":
        if not words or words[0].startswith("-"):
            return []
        known = help_of(words[0])
        return [w for w in options if w not in known] if known else words[:1]
    module = words[1]
    if importlib.util.find_spec(module) is None:
        return [module]
    source = "".join(p.read_text() for p in (ROOT / "benchmarks").glob("*.py"))
    return [option for option in options if f'"{option}"' not in source]


def test_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= MAX_README_LINES


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page: pathlib.Path) -> None:
    assert not broken_links(page, page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist(page: pathlib.Path) -> None:
    found = {c: lacking(c) for c in commands(page.read_text())}
    assert not {command: names for command, names in found.items() if names}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_uses_no_riddle(page: pathlib.Path) -> None:
    assert not RIDDLES.findall(page.read_text())


def terms() -> set[str]:
    """Words that the glossary explains, in the singular."""
    text = (ROOT / "docs" / "glossary.md").read_text()
    bold = " ".join(re.findall(r"^\* \*\*(.+?)\*\*:", text, re.MULTILINE))
    return {word.removesuffix("s") for word in re.findall(r"\w+", bold.lower())}


def classes(folder: str) -> Iterator[str]:
    for path in sorted((ROOT / "jaxswap" / folder).glob("*.py")):
        yield from re.findall(r"^class ([A-Z]\w+)", path.read_text(), re.MULTILINE)


def unexplained(names: Iterable[str], explained: set[str]) -> list[str]:
    """Names of classes of which the glossary has no word."""
    split = {name: re.findall(r"[A-Z][a-z]+", name) for name in names}
    return [
        name
        for name, words in split.items()
        if not {word.lower().removesuffix("s") for word in words} & explained
    ]


# Words of everyday English, or of the library whose text is read.
PLAIN = {"Answer", "Arranger", "Best", "Exact", "Found", "Refined", "Task"}
PLAIN |= {"RecomputedSet", "Search", "Simulator"}
PLAIN |= {"Matrix", "Solution"}
PLAIN |= {"Absence", "LMS", "Made", "Outcome", "Tried", "Fusion", "Wait"}


@pytest.mark.parametrize(
    "folder", ["_graph", "_schedule", "_simulate", "_search", "_plans", "_view"]
)
def test_glossary_explains_what_classes_are_called(folder: str) -> None:
    assert not unexplained(set(classes(folder)) - PLAIN, terms())


def test_glossary_explains_public_types() -> None:
    modules = (jaxswap, jaxswap.extend)
    public = {name: getattr(m, name) for m in modules for name in dir(m)}
    types = {name for name, value in public.items() if isinstance(value, type)}
    names = {name for name in types if not name.endswith("Error")}
    assert not unexplained(names - PLAIN, terms())


def test_a_name_that_the_glossary_lacks_is_found() -> None:
    assert unexplained(["Swap", "SwapIn", "Zebra"], {"swap"}) == ["Zebra"]


# README comes first.
WITH_CODE = [page for page in PAGES if code_blocks(page.read_text(), "python")]


def run_code(page: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """Run the code blocks of a page in one namespace, and return that."""
    namespace: dict[str, Any] = {"__name__": page.stem}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSWAP_CACHE_DIR", str(folder))
        patch.chdir(folder)
        # Readers have JAX's defaults; the tests are stricter.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            for block in code_blocks(page.read_text(), "python"):
                exec(compile(block, name_of(page), "exec"), namespace)
    return namespace


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE[1:], ids=name_of)
def test_code_of_page_runs(page: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run_code(page, tmp_path)


@pytest.mark.slow
def test_example_of_readme_has_the_figures_that_it_tells(
    tmp_path: pathlib.Path,
) -> None:
    text = (ROOT / "README.md").read_text().replace("\n", " ")
    found = re.search(
        r"JAX needs (\S+) GiB.* program needs (\S+) GiB.* takes (\S+) times",
        text,
    )
    assert found
    plain_gib, planned_gib, times = map(float, found.groups())
    names = run_code(ROOT / "README.md", tmp_path)
    step = jax.value_and_grad(names["loss"])
    plain = jaxswap.inspect(step, *names["arguments"], target="h100")
    plan = names["plan"]
    assert plain.device_bytes / 2**30 == pytest.approx(plain_gib, abs=0.005)
    # How far a search comes depends on the machine.
    assert plan.device_bytes / 2**30 == pytest.approx(planned_gib, rel=0.08)
    assert plan.seconds / plan.plain.seconds == pytest.approx(times, abs=0.03)


def test_pages_have_code() -> None:
    named = {name_of(page) for page in WITH_CODE}
    guides = {f"docs/{name}.md" for name in ("planning", "policies", "models")}
    assert {"README.md", "CONTRIBUTING.md", *guides} <= named


def test_pages_list_the_folders_in_their_order() -> None:
    floors = [floor for floor in FLOORS if (ROOT / "jaxswap" / floor).is_dir()]
    text = (ROOT / "docs" / "how-it-works.md").read_text()
    assert re.findall(r"^\| `(_\w+)` \|", text, re.MULTILINE) == floors
    text = (ROOT / "CONTRIBUTING.md").read_text()
    pure, rest = re.findall(r"`(_\w+ _\w+ [\w ]+)`", text)
    assert [*pure.split(), *rest.split()] == floors


def loss(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.tanh(x @ x))


def branching(x: jax.Array) -> jax.Array:
    return jnp.sum(x) if x[0, 0] > 0 else jnp.sum(-x)


def writing(x: jax.Array) -> jax.Array:
    cell = jax.new_ref(x)
    cell[...] = 2 * x
    return jnp.sum(cell[...])


def looped(x: jax.Array, unroll: int = 1) -> jax.Array:
    def body(h: jax.Array, _: None) -> tuple[jax.Array, None]:
        return jnp.tanh(h @ x), None

    return jnp.sum(jax.lax.scan(body, x, None, length=4, unroll=unroll)[0])


def unrolled(x: jax.Array) -> jax.Array:
    return looped(x, unroll=2)


def printing(x: jax.Array) -> jax.Array:
    jax.debug.print("{}", x[0, 0], ordered=True)
    return loss(jnp.tanh(x @ x))


X = jnp.ones((4, 4))
LARGE = jax.ShapeDtypeStruct((2048, 2048), jnp.float32)
SYMBOLIC = jax.ShapeDtypeStruct(jax.export.symbolic_shape("n, n"), jnp.float32)


def split_in_slabs() -> Callable[..., Any]:
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    split = jax.sharding.NamedSharding(mesh, jax.P("data"))
    return jaxswap.offload(loss, slabs=jaxswap.Slabs(), in_shardings=(split,))


def split_in_pieces() -> jaxswap.Plan:
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    split = jax.sharding.NamedSharding(mesh, jax.P("data"))
    x = jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=split)
    given: dict[str, Any] = {"target": "h100", "compile": False, "progress": False}
    return jaxswap.plan(lambda x: jnp.sum(jnp.tanh(x)), x, pieces=2, **given)


def planned(fn: Callable[..., Any] | None = None, **options: Any) -> jaxswap.Plan:
    given: dict[str, Any] = {
        "target": "h100",
        "compile": False,
        "progress": False,
    } | options
    return jaxswap.plan(fn or (lambda x: loss(jnp.tanh(x @ x))), LARGE, **given)


PROVOKED: list[Callable[[], object]] = [
    lambda: jaxswap.offload(loss, policy=jaxswap.KEEP, target="h100"),
    lambda: jax.grad(jaxswap.offload(branching))(X),
    lambda: jax.grad(jaxswap.offload(writing))(X),
    lambda: jax.grad(jaxswap.offload(unrolled, policy=jaxswap.RECOMPUTE))(X),
    lambda: planned(looped, search_seconds=0.1).with_action("tanh", jaxswap.KEEP),
    lambda: planned(budget="20MiB", search_seconds=0.1),
    lambda: jax.grad(jaxswap.offload(loss, plan=planned(search_seconds=0.1)))(X),
    lambda: jax.grad(jaxswap.offload(loss, budget="1GiB"))(X),
    lambda: planned(policy=jaxswap.OFFLOAD, host_budget=1),
    lambda: jax.jit(jax.grad(jaxswap.offload(printing, policy=jaxswap.OFFLOAD)))(X),
    lambda: jaxswap.plan(loss, SYMBOLIC, target="h100", progress=False),
    lambda: refuse_wrong_jaxlib("0.11.0"),
    lambda: refuse_wrong_slices("gpu", are_right=False),
    lambda: jax.grad(jaxswap.offload(loss, slabs=jaxswap.Slabs()))(X),
    lambda: jax.grad(split_in_slabs())(X),
    split_in_pieces,
]


def message_of(provoke: Callable[[], object]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            provoke()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return ""


def quoted_errors(text: str) -> list[tuple[str, str]]:
    """Kind and text of each error between backticks, what was left out aside."""
    spans = [span.strip() for _, span in re.findall(r"(`+)(.+?)\1(?!`)", text)]
    found = (re.match(r"(\w+(?:Error|Warning)): (?:\.\.\. )?(.+)", s) for s in spans)
    return [(match[1], match[2]) for match in found if match]


def test_errors_of_limits_are_those_that_are_raised() -> None:
    quoted = quoted_errors((ROOT / "docs" / "limits.md").read_text())
    assert len(quoted) >= 10
    raised = [message_of(provoke) for provoke in PROVOKED]
    for kind, text in quoted:
        assert any(m.startswith(kind) and text in m for m in raised), (kind, text)


def test_a_broken_link_is_found() -> None:
    text = "[a](README.md) ![b](no.png) [c](https://x.org) [d](README.md#x)"
    text += "`tests/no.py` `docs/conf.py`"
    assert broken_links(ROOT / "README.md", text) == ["no.png", "tests/no.py"]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("make nothing", "nothing"),
        ("jaxswap nothing", "nothing"),
        ("jaxswap plan unet3d --nothing 2", "--nothing"),
        ("python -m benchmarks.nothing", "benchmarks.nothing"),
        ("python -m benchmarks --nothing", "--nothing"),
    ],
)
def test_a_missing_command_is_found(command: str, name: str) -> None:
    assert list(commands(f"`{command}`")) == [command]
    assert list(commands(f"```\n{command}  # why\n```")) == [command]
    assert lacking(command) == [name]


def test_an_error_that_is_no_more_raised_is_found() -> None:
    text = "| ``ValueError: `x` is 1`` | `TypeError: ... not so` | `ValueError` |"
    assert quoted_errors(text) == [("ValueError", "`x` is 1"), ("TypeError", "not so")]
