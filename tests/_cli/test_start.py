"""What is loaded when; that nothing is written before a command's own first line."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
COMMANDS = (
    "demo plan inspect targets calibrate check train predict evaluate synth compare"
).split()


def python(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
)
def test_help_loads_no_library(words: list[str]) -> None:
    """JAX, NumPy and SciPy take from a third of a second to several seconds."""
    done = python(f"""
        import sys
        from jaxswap._cli.main import main
        try:
            main({words})
        finally:
            heavy = {{"jax", "numpy", "scipy", "flax", "rich", "matplotlib"}}
            print("loaded:", *heavy & sys.modules.keys())
    """)
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_a_table_of_targets_needs_no_jax() -> None:
    done = python("""
        import sys
        from jaxswap._cli.main import main
        assert main(["targets"]) == 0
        assert "jax" not in sys.modules
    """)
    assert done.stderr == ""


def test_a_command_writes_nothing_before_its_own_first_line() -> None:
    words = ["plan", "unet3d", "--target", "h100", "--size", "16", "--no-compile"]
    command = [sys.executable, "-m", "jaxswap._cli.main", *words]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stderr.startswith("jaxswap: planning")
    assert done.stdout.startswith("plan for h100")


def test_other_lines_are_passed_on_and_errors_raised() -> None:
    done = python("""
        import os, sys
        from jaxswap._cli.start import _without_noise
        notice = (
            b"WARNING: All log messages before absl::InitializeLog() is called are "
            b"written to STDERR\\n"
        )
        stub = b"I0000 00:00:1.0 1 cudart_stub.cc:31] Could not find cuda drivers on "
        try:
            with _without_noise():
                os.write(2, notice + stub + b"your machine, GPU will not be used.\\n")
                os.write(2, b"E0000 the driver is too old\\n")
                sys.stderr.write("a warning")
                raise ImportError("no JAX")
        except ImportError as error:
            print(error)
        sys.stderr.write("\\nlater\\n")
    """)
    assert done.stdout == "no JAX\n"
    assert done.stderr == "E0000 the driver is too old\na warning\nlater\n"


def test_a_source_folder_that_was_never_installed_plans(tmp_path: Path) -> None:
    """All packages but jaxswap itself, whose version is not asked of the installer."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for folder in map(Path, sys.path):
        if folder.name in ("site-packages", "dist-packages"):
            for entry in folder.iterdir():
                if "jaxswap" not in entry.name and not (packages / entry.name).exists():
                    (packages / entry.name).symlink_to(entry)
    done = subprocess.run(
        [sys.executable, "-S", "-c", NEVER_INSTALLED],
        env={
            "PYTHONPATH": f"{ROOT}:{packages}",
            "JAXSWAP_HOME": str(tmp_path / "home"),
            "JAX_PLATFORMS": "cpu",
        },
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[0] == "not installed"
    assert "plan for h100" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("jaxswap 0.")


NEVER_INSTALLED = """
import importlib.metadata
try:
    importlib.metadata.version("jaxswap")
except importlib.metadata.PackageNotFoundError:
    print("not installed")
import jax, jax.numpy as jnp, jaxswap
from jaxswap._cli.main import main
x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
print(jaxswap.plan(lambda x: jnp.sum(jnp.tanh(x @ x)), x, target="h100", compile=False))
assert jaxswap.__version__
main(["--version"])
"""
