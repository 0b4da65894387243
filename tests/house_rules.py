"""What every file of the package keeps to: each check returns what it finds.

Data flows one way: a file of the core imports only floors below its own, and within a
floor there is no circle. Everything else (`medical`, benchmarks, notebooks) uses the
public names and nothing more.
"""

import ast
import functools
import itertools
import json
import pathlib
import re
from collections.abc import Callable, Iterator

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "jaxswap").rglob("*.py"))
USERS = [*sorted((ROOT / "benchmarks").rglob("*.py"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# From the ground up; the names at the top of the package come last. The pure ones work
# on numbers and text.
PURE = ("_base", "_gpu", "_slabs", "_graph", "_schedule", "_simulate", "_sketch")
PURE += (
    "_search",
    "_plans",
    "_view",
    "_compiled",
    "_profiled",
)  # these never import JAX
TOP = "the top of the package"
FLOORS = (*PURE, "_compat", "_trace", "_sweeps", "_run", "_device", TOP)
NEVER_IN_CORE = {"flax", "optax", "nibabel", "nilearn", "scipy", "matplotlib", "rich"}
NEVER_IN_CORE |= {"highspy"}
# Libraries that one file is there for, imported when it is used.
LIBRARIES = {"_search.solver": {"highspy"}, "_view.plot": {"matplotlib"}}
# A plan can be printed, drawn and saved: methods that import what does it.
DEFERRED = {"_plans.plan": {"_view", "_plans.file"}}
# To be mended: what was read from a program belongs to the search.
DEFERRED["_search.refine"] = {"_plans"}
# The same for `medical`, which uses public names of the core alone.
MEDICAL_FLOORS = ("_paths", "data", "preparing", "networks", "runs", "prediction")
MEDICAL_FLOORS += ("scoring", "training", "synthesis", "experiment")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60  # its docstring aside

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function
Check = Callable[[str, str], list[str]]

parsed = functools.cache(ast.parse)


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
    tree = parsed(source)
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
    for function in functions(parsed(source)):
        length = (function.end_lineno or 0) - function.lineno + 1
        length -= (ast.get_docstring(function) or "").count("\n")
        if length > MAX_FUNCTION_LINES:
            found.append(f"{module}.{function.name}: {length} lines")
    return found


def check_manners(source: str, module: str) -> list[str]:
    """No print, no bare except, no raise without a message."""
    found = []
    for node in ast.walk(parsed(source)):
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
        if not isinstance(node, Documented):
            return
        decorators = [ast.unparse(d) for d in getattr(node, "decorator_list", [])]
        if not ast.get_docstring(node) and "overload" not in decorators:
            yield name
        if not isinstance(node, Function):
            for child in node.body:
                child_name = getattr(child, "name", "_")
                if not child_name.startswith("_"):
                    yield from undocumented(child, f"{name}.{child_name}")

    return list(undocumented(parsed(source), module))


SECTIONS = {"Args", "Attributes", "Returns", "Yields", "Raises"}
SECTIONS |= {"Example", "References"}
THIRD_PERSON = "Returns Reads Computes Makes Writes Finds Adds Runs Puts Raises Applies"
THIRD_PERSON += " Turns Takes Gives Checks Prepares Splits Describes Samples"
THIRD_PERSON += " Does Counts Picks Yields Saves Waits Shows Prints Builds Opens Starts"
SECTION = re.compile(r"^( *)(\w+):$")


def check_docstring_form(source: str, module: str) -> list[str]:
    """Google's form: known sections, indented by four; functions told what to do."""

    def faults(node: Documented, text: str) -> Iterator[str]:
        first = text.split(maxsplit=1)[0]
        if isinstance(node, Function) and first.rstrip(",") in THIRD_PERSON.split():
            yield f"begins with {first}"
        lines = text.splitlines()
        for line, below in itertools.pairwise(lines):
            found = SECTION.match(line)
            if found and not found[1] and found[2][0].isupper():
                if found[2] not in SECTIONS:
                    yield f"has a section {found[2]}"
                elif not re.match(r" {4}\S", below):
                    yield f"{found[2]} is not indented by four"
        for section in ("Args", "Attributes", "Raises"):
            entries = text.partition(f"\n{section}:\n")[2].partition("\n\n")[0]
            for name in re.findall(r"^ {4}([*\w.]+): [a-z]+ ", entries, re.M):
                yield f"{section}: {name} begins with a small letter"

    return [
        f"{module}.{getattr(node, 'name', '')}: {fault}"
        for node in ast.walk(parsed(source))
        if isinstance(node, Documented) and (text := ast.get_docstring(node))
        for fault in faults(node, text)
    ]


def check_annotations(source: str, module: str) -> list[str]:
    """Every argument and every result has a type."""
    found = []
    for function in functions(parsed(source)):
        spec = function.args
        arguments = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]
        arguments += [a for a in (spec.vararg, spec.kwarg) if a is not None]
        for argument in arguments:
            if argument.annotation is None and argument.arg not in ("self", "cls"):
                found.append(f"{module}.{function.name}: {argument.arg}")
        if function.returns is None and function.name != "__init__":
            found.append(f"{module}.{function.name}: result")
    return found


def floor_of(name: str) -> str:
    """The floor of a file or of what is imported from it, both without `jaxswap.`."""
    first = name.split(".")[0]
    return first if first in FLOORS else TOP


def is_deferred(name: str, imported: str) -> bool:
    """Whether an import against the order is one that is known and waits for a call."""
    doors = DEFERRED.get(name, set())
    return any(imported == door or imported.startswith(f"{door}.") for door in doors)


def check_core_order(source: str, module: str) -> list[str]:
    """A file imports floors below its own, its own floor, and no library above."""
    name = module.removeprefix("jaxswap.")
    floor = floor_of(name)
    allowed = FLOORS[: FLOORS.index(floor) + 1]
    found = []
    for imported in imports(parsed(source), module):
        first, _, rest = imported.partition(".")
        if first == "jaxswap":
            is_core = rest.split(".")[0] not in NOT_CORE and floor_of(rest) in allowed
            if not rest or not (is_core or is_deferred(name, rest)):
                found.append(f"{name} imports {imported}")
        elif first in NEVER_IN_CORE - LIBRARIES.get(name, set()):
            found.append(f"{name} imports {imported}")
        elif first in ("jax", "jaxlib") and (floor in PURE or name == "policies"):
            found.append(f"{name} imports {imported}: it works on numbers alone")
    return found


def circles(files: list[tuple[str, str]]) -> list[str]:
    """Files that import one another in a circle; imports that wait for a call aside."""
    known = {module for _, module in files}
    arrows: dict[str, set[str]] = {module: set() for module in known}
    for source, module in files:
        name = module.removeprefix("jaxswap.")
        for imported in imports(parsed(source), module):
            if not is_deferred(name, imported.removeprefix("jaxswap.")):
                arrows[module] |= {imported, imported.rpartition(".")[0]} & known
    left = dict(arrows)
    while ends := [module for module, to in left.items() if not to & left.keys()]:
        for module in ends:
            del left[module]
    return sorted(left)


def check_medical_order(source: str, module: str) -> list[str]:
    """A file of `medical` imports floors below its own and its own floor."""
    floor = module.split(".")[2]
    allowed = MEDICAL_FLOORS[: MEDICAL_FLOORS.index(floor) + 1]
    found = []
    for imported in imports(ast.parse(source), module):
        package, name, folder = [*imported.split("."), "", ""][:3]
        if (package, name) == ("jaxswap", "medical") and folder not in allowed:
            found.append(f"{module} imports {imported}")
    return found


def check_public_use(source: str, module: str) -> list[str]:
    """Users of the core, our own among them, use its public names."""
    within = module if module.startswith("jaxswap.") else "jaxswap.medical"
    inside = ".".join(within.split(".")[:2])  # its own private modules are its own
    tree = parsed(source)
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


FLAX = ("linen", "nnx")  # for users of Flax; they use the core as any user does
NOT_CORE = ("_cli", "medical", *FLAX)
CORE_FILES = [
    path
    for path in PACKAGE
    if path.relative_to(ROOT / "jaxswap").with_suffix("").parts[0] not in NOT_CORE
]
FLAX_FILES = [ROOT / "jaxswap" / f"{name}.py" for name in FLAX]
MEDICAL = ROOT / "jaxswap" / "medical"
MEDICAL_FILES = sorted(MEDICAL.rglob("*.py"))
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))


def assert_none_found(check: Check, files: list[tuple[str, str]]) -> None:
    found = [line for source, module in files for line in check(source, module)]
    assert not found, "\n".join(found)
