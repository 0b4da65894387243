"""A compiled step -> what JAX's profiler recorded while it ran."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from jaxswap._profiled.streams import MARK, ProfiledPlane


def record(
    step: jax.stages.Compiled,
    args: tuple[Any, ...],
    repeats: int,
    kwargs: dict[str, Any] | None = None,
) -> tuple[ProfiledPlane, ...]:
    """Run a step under the profiler.

    The first run is not recorded: it allocates pinned host memory. Arguments that the
    step donates are copied before each run.

    Args:
        step: The compiled step.
        args: Its arguments.
        repeats: How often it is run within the annotation `MARK`, its results awaited.
        kwargs: Its arguments by name.

    Returns:
        What was recorded: a plane for each device and some for the host.
    """
    given = (args, kwargs or {})
    memory: Any = step.memory_analysis()
    is_donating = bool(memory.alias_size_in_bytes)

    def arguments() -> Any:
        return (
            jax.block_until_ready(jax.tree.map(_copied, given))
            if is_donating
            else given
        )

    def run(given: Any) -> None:
        jax.block_until_ready(step(*given[0], **given[1]))

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    run(arguments())
    with tempfile.TemporaryDirectory(prefix="jaxswap-") as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(repeats):
                ready = arguments()
                with jax.profiler.TraceAnnotation(MARK):
                    run(ready)
        (path,) = _recorded(Path(folder))
        recorded = path.read_bytes()
    planes: Any = jax.profiler.ProfileData.from_serialized_xspace(recorded).planes
    return tuple(planes)


def _copied(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, jax.Array) else leaf


def _recorded(folder: Path) -> Iterable[Path]:
    return folder.glob("plugins/profile/*/*.xplane.pb")
