"""What every file of the package keeps to, and that each of these checks can fail.

Data flows one way: a core module imports only those listed before it. Everything else
(`medical`, benchmarks, notebooks) uses the public names and nothing more.
"""

import ast
import json
import pathlib
from collections.abc import Callable, Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "jaxswap").rglob("*.py"))
USERS = [*sorted((ROOT / "benchmarks").rglob("*.py"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# Numbers and text alone: these never import JAX.
PURE = "_units _placement _graph _timing _rates _target_table _target".split()
PURE += "_node _saved_targets _host_memory _budget _signature _cost _order".split()
PURE += "_lifetimes _policy _instructions _uses _schedule _prune _options _hlo".split()
PURE += "_copies _collectives _buffers _labels _kernels _timeline _simulate".split()
PURE += "_prefetch _arrange _candidates _front _model _segments _moves _exact".split()
PURE += "_descent _search _plan _ladder _refine _tuning policies _plan_file".split()
PURE += "_plan_cache _rows _loop_rows _report _lanes _plot _svg _html".split()
CORE = [
    *PURE,
    "_compat",
    "_measure",
    "_calibrate",
    "_trace",
    "_shardings",
    "_propagation",
    "_values",
    "_halo",
    "_partial_sums",
    "_rewrite",
    "_loop",
]
CORE += [
    "_topology",
    "_evidence",
    "_function",
    "_step",
    "_request",
    "_planner",
    "_pareto",
    "_offload",
    "_compare",
    "_check",
    "_host_state",
]
CORE += ["__init__"]
NEVER_IN_CORE = {"flax", "optax", "nibabel", "nilearn", "scipy", "matplotlib", "rich"}
# Libraries that one module is there for, imported when it is used.
LIBRARIES = {"_model": {"scipy"}, "_plot": {"matplotlib"}}
# A plan can be printed, drawn and saved: methods that import what does it.
DEFERRED = {"_plan": {"_rows", "_report", "_plot", "_html", "_plan_file"}}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60  # its docstring aside

Function = ast.FunctionDef | ast.AsyncFunctionDef
Check = Callable[[str, str], list[str]]


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """Absolute dotted names of everything imported; `module` resolves relative ones."""
    package = module.split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def functions(tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def check_private_jax(source: str, module: str) -> list[str]:
    """JAX is used through its public names."""
    del module
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [
                f"{getattr(node, 'module', None) or ''}.{a.name}" for a in node.names
            ]
            found += [n for n in names if "jax._src" in n or "jaxlib._" in n]
        elif isinstance(node, ast.Attribute) and node.attr == "_src":
            found.append(ast.unparse(node))
    return found


def check_size(source: str, module: str) -> list[str]:
    """A file fits in the head; a function on a screen or two."""
    lines = source.count("\n")
    found = [f"{module}: {lines} lines"] if lines > MAX_FILE_LINES else []
    for function in functions(ast.parse(source)):
        length = (function.end_lineno or 0) - function.lineno + 1
        length -= (ast.get_docstring(function) or "").count("\n")
        if length > MAX_FUNCTION_LINES:
            found.append(f"{module}.{function.name}: {length} lines")
    return found


def check_manners(source: str, module: str) -> list[str]:
    """No print, no bare except, no raise without a message."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                found.append(f"{module}:{node.lineno}: print")
            case ast.ExceptHandler(type=None):
                found.append(f"{module}:{node.lineno}: bare except")
            case ast.Raise(exc=ast.Call(args=[], keywords=[])):
                found.append(f"{module}:{node.lineno}: raise without a message")
            case ast.Raise(exc=ast.Name(id=name)) if name[0].isupper():
                found.append(f"{module}:{node.lineno}: raise without a message")
    return found


def check_docstrings(source: str, module: str) -> list[str]:
    """Modules and everything without an underscore say what they are."""

    def undocumented(node: ast.AST, name: str) -> Iterator[str]:
        if not isinstance(node, ast.Module | ast.ClassDef | Function):
            return
        decorators = [ast.unparse(d) for d in getattr(node, "decorator_list", [])]
        if not ast.get_docstring(node) and "overload" not in decorators:
            yield name
        if not isinstance(node, Function):
            for child in node.body:
                child_name = getattr(child, "name", "_")
                if not child_name.startswith("_"):
                    yield from undocumented(child, f"{name}.{child_name}")

    return list(undocumented(ast.parse(source), module))


def check_annotations(source: str, module: str) -> list[str]:
    """Every argument and every result has a type."""
    found = []
    for function in functions(ast.parse(source)):
        spec = function.args
        arguments = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]
        arguments += [a for a in (spec.vararg, spec.kwarg) if a is not None]
        for argument in arguments:
            if argument.annotation is None and argument.arg not in ("self", "cls"):
                found.append(f"{module}.{function.name}: {argument.arg}")
        if function.returns is None and function.name != "__init__":
            found.append(f"{module}.{function.name}: result")
    return found


def check_core_order(source: str, module: str) -> list[str]:
    """A core module imports only earlier ones, and no library above the core."""
    name = module.removeprefix("jaxswap.")
    if name not in CORE:
        return [f"{name} has no place among the core modules"]
    allowed = {*CORE[: CORE.index(name)], *DEFERRED.get(name, ())}
    found = []
    for imported in imports(ast.parse(source), module):
        first, *rest = imported.split(".")
        if first == "jaxswap":
            if not rest or rest[0] not in allowed:
                found.append(f"{name} imports {imported}")
        elif first in NEVER_IN_CORE - LIBRARIES.get(name, set()):
            found.append(f"{name} imports {imported}")
        elif first in ("jax", "jaxlib") and name in PURE:
            found.append(f"{name} imports {imported}: it works on numbers alone")
    return found


def check_public_use(source: str, module: str) -> list[str]:
    """Users of the core, our own among them, use its public names."""
    within = module if module.startswith("jaxswap.") else "jaxswap.medical"
    inside = ".".join(within.split(".")[:2])  # its own private modules are its own
    tree = ast.parse(source)
    found = []
    for imported in imports(tree, module):
        parts = imported.split(".")
        own = imported.startswith(f"{inside}.") and module.startswith(inside)
        if parts[0] == "jaxswap" and not own and any(map(is_private, parts)):
            found.append(f"{module} imports {imported}")
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="jaxswap"), attr=attr):
                if is_private(attr):
                    found.append(f"{module} uses jaxswap.{attr}")
    return found


def module_name(path: pathlib.Path) -> str:
    """`jaxswap._trace`; a package is named by its `__init__`, so that `.x` resolves."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def sources(paths: list[pathlib.Path]) -> list[tuple[str, str]]:
    return [(path.read_text(), module_name(path)) for path in paths]


def notebook_sources() -> list[tuple[str, str]]:
    """The code of each notebook, without the lines that only IPython understands."""
    found = []
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text())["cells"]
        lines = "".join(
            "".join(cell["source"]) + "\n"
            for cell in cells
            if cell["cell_type"] == "code"
        ).splitlines()
        code = "\n".join(line for line in lines if not line.startswith(("%", "!")))
        found.append((code, f"notebooks.{path.stem}"))
    return found


COMMANDS = ("_cli", "_commands", "__main__")
FLAX = ("linen", "nnx")  # for users of Flax; they use the core as any user does
CORE_FILES = [path for path in PACKAGE if path.parent.name == "jaxswap"]
CORE_FILES = [path for path in CORE_FILES if path.stem not in (*COMMANDS, *FLAX)]
FLAX_FILES = [ROOT / "jaxswap" / f"{name}.py" for name in FLAX]
MEDICAL_FILES = [path for path in PACKAGE if path.parent.name == "medical"]
TEST_FILES = sorted((ROOT / "tests").glob("*.py"))


def assert_none_found(check: Check, files: list[tuple[str, str]]) -> None:
    found = [line for source, module in files for line in check(source, module)]
    assert not found, "\n".join(found)


def test_no_file_uses_private_jax() -> None:
    everything = sources([*PACKAGE, *USERS, *TEST_FILES]) + notebook_sources()
    assert_none_found(check_private_jax, everything)


@pytest.mark.parametrize(
    "check", [check_size, check_manners, check_docstrings, check_annotations]
)
def test_package_keeps_house_style(check: Check) -> None:
    assert_none_found(check, sources(PACKAGE))


def test_core_modules_import_only_earlier_ones() -> None:
    assert_none_found(check_core_order, sources(CORE_FILES))


def test_core_modules_are_the_ones_there_are() -> None:
    assert {path.stem for path in CORE_FILES} == set(CORE)


def test_users_of_the_core_use_public_names() -> None:
    users = sources([*MEDICAL_FILES, *FLAX_FILES, *USERS]) + notebook_sources()
    assert_none_found(check_public_use, users)


LONG_FUNCTION = "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES

BAD = [
    (check_private_jax, "m", "from jax._src import core"),
    (check_private_jax, "m", "import jax._src.core as core"),
    (check_private_jax, "m", "from jax import _src"),
    (check_private_jax, "m", "import jax\njax._src.core"),
    (check_size, "m", "\n" * (MAX_FILE_LINES + 1)),
    (check_size, "m", LONG_FUNCTION),
    (check_manners, "m", "print(1)"),
    (check_manners, "m", "try:\n  f()\nexcept:\n  pass"),
    (check_manners, "m", "raise ValueError()"),
    (check_manners, "m", "raise ValueError"),
    (check_docstrings, "m", "x = 1"),
    (check_docstrings, "m", "'''m'''\ndef f(): pass"),
    (check_docstrings, "m", "'''m'''\nclass A: pass"),
    (check_docstrings, "m", "'''m'''\nclass A:\n  '''a'''\n  def f(self): pass"),
    (check_annotations, "m", "def f(x) -> None: pass"),
    (check_annotations, "m", "def f(*x) -> None: pass"),
    (check_annotations, "m", "def f(x: int): pass"),
    (check_annotations, "m", "def f() -> None:\n  def _g(x): pass"),
    (check_core_order, "jaxswap._trace", "from jaxswap._offload import offload"),
    (check_core_order, "jaxswap._trace", "from ._values import Value"),
    (check_core_order, "jaxswap._trace", "from . import _values"),
    (check_core_order, "jaxswap._trace", "import jaxswap"),
    (check_core_order, "jaxswap._trace", "def f():\n  import flax"),
    (check_core_order, "jaxswap.__init__", "from jaxswap import medical"),
    (check_core_order, "jaxswap._cost", "import jax.numpy as jnp"),
    (check_core_order, "jaxswap._new", ""),
    (check_public_use, "jaxswap.medical.unet", "from jaxswap._trace import trace"),
    (check_public_use, "jaxswap.medical.unet", "from jaxswap import _trace"),
    (check_public_use, "jaxswap.medical.unet", "from .. import _trace"),
    (check_public_use, "jaxswap.medical.unet", "import jaxswap\njaxswap._trace"),
    (check_public_use, "jaxswap.linen", "from jaxswap._trace import trace"),
    (check_public_use, "jaxswap.nnx", "from . import _trace"),
    (check_public_use, "benchmarks.unet3d", "from jaxswap._trace import trace"),
    (check_public_use, "benchmarks.unet3d", "from jaxswap.medical._a import b"),
]
GOOD = [
    (check_private_jax, "m", "from jax.extend import core"),
    (check_size, "m", "\n" * MAX_FILE_LINES),
    (check_manners, "m", "try:\n  f()\nexcept KeyError as error:\n  raise"),
    (check_docstrings, "m", "'''m'''\ndef _f(): pass"),
    (check_docstrings, "m", "'''m'''\n@overload\ndef f(): ..."),
    (check_annotations, "m", "class A:\n  def __init__(self, x: int): pass"),
    (check_core_order, "jaxswap._trace", "import jax\nfrom ._compat import literal"),
    (check_core_order, "jaxswap._cost", "from jaxswap._units import format_bytes"),
    (check_core_order, "jaxswap.__init__", "from jaxswap._offload import offload"),
    (check_public_use, "jaxswap.medical.unet", "from jaxswap import offload"),
    (check_public_use, "jaxswap.medical.unet", "from ._blocks import conv"),
    (check_public_use, "jaxswap.medical.unet", "from jaxswap.medical._blocks import a"),
    (check_public_use, "jaxswap.linen", "import flax, jaxswap\njaxswap.offload"),
    (check_public_use, "benchmarks.unet3d", "import jaxswap\njaxswap.offload"),
]


@pytest.mark.parametrize(("check", "module", "source"), BAD)
def test_check_rejects(check: Check, module: str, source: str) -> None:
    assert check(source, module)


@pytest.mark.parametrize(("check", "module", "source"), GOOD)
def test_check_accepts(check: Check, module: str, source: str) -> None:
    assert not check(source, module)
