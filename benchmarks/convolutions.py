"""Which form of each convolution of the U-Net is the fastest, and what is the least?

python -m benchmarks.convolutions                  time all forms on this machine's GPU
python -m benchmarks.convolutions --target h200    compile them for a GPU that is absent
python -m benchmarks.convolutions --table          what was timed (there, with --target)

What is asked most comes first, and each row is written when it is made: a run that is
cut off loses nothing. Each result is compared with the plain form's. Beside the time of
each pass stand two limits that no program can beat: what its operands and result take
to move through device memory, and what its multiplications take at the published peak
of the tensor cores.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

import jaxswap
from benchmarks import harness
from jaxswap.medical.networks.convolution_choice import draw, relative_error
from jaxswap.medical.networks.convolution_form import Form
from jaxswap.medical.networks.convolution_forms import PLAIN, Kind, forms_of

OUTPUT = harness.RESULTS / "convolutions.jsonl"
PASSES = ("forward", "kernel_gradient", "input_gradient")
"""Of each convolution."""
WITH_MOMENTS = "with_moments"
"""The forward pass and what the next normalisation reads: mean and variance of the
result. Forms whose kernel does not find them read the result once more."""
THREADS = 8
REPEATS = 20
COMPILED_SHARE = 0.6
"""Of the time, what compiling may take before what is there is timed."""

CONVOLUTIONS: tuple[tuple[Kind, int, tuple[int, int], str], ...] = (
    ("convolve", 192, (16, 16), "bfloat16"),
    ("convolve", 96, (32, 32), "bfloat16"),
    ("convolve_upsampled", 96, (32, 16), "bfloat16"),
    ("convolve_strided", 192, (16, 32), "bfloat16"),
    ("convolve", 192, (4, 16), "bfloat16"),
    ("convolve", 48, (64, 64), "bfloat16"),
    ("convolve", 192, (16, 16), "float32"),
    ("convolve", 96, (32, 32), "float32"),
    ("convolve_transposed", 96, (32, 16), "bfloat16"),
)
"""Kind, side, channels and type, what takes most of a step first."""

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """One pass of one form of one convolution.

    Attributes:
        kind: Which convolution.
        side: Voxels of the features along each axis of space.
        channels: Of the features and of the result.
        dtype: Of features and kernel.
        pass_name: Of `PASSES`, or `WITH_MOMENTS`.
        form: The name of the form.
    """

    kind: Kind
    side: int
    channels: tuple[int, int]
    dtype: str
    pass_name: str
    form: str

    @property
    def types(self) -> list[jax.ShapeDtypeStruct]:
        """Features, kernel and, for a gradient, the gradient of the result."""
        x, kernel = self._features, self._kernel
        is_forward = self.pass_name in ("forward", WITH_MOMENTS)
        return [x, kernel] if is_forward else [x, kernel, self._result]

    def run(self, *arrays: Any) -> Any:
        """Compute the pass."""
        return getattr(self.forms()[self.form], self.pass_name)(*arrays)

    def forms(self) -> dict[str, Form]:
        """All forms of this convolution by name."""
        shapes = (self._features.shape, self._kernel.shape)
        return forms_of(self.kind, *shapes, self.dtype)

    def limits(self, target: jaxswap.Target) -> dict[str, float]:
        """What moving the arrays once and multiplying once take at published peaks."""
        arrays = (self._features, self._kernel, self._result)
        nbytes = sum(math.prod(a.shape) * a.dtype.itemsize for a in arrays)
        is_wide = self.dtype == "float32"
        peak = target.tf32_flops_per_second if is_wide else target.bf16_flops_per_second
        return {
            "bytes_seconds": nbytes / target.memory_bytes_per_second,
            "operations_seconds": 2 * self._multiplications / peak,
        }

    @property
    def _multiplications(self) -> int:
        # Upsampling and a 3x3x3 kernel meet 2x2x2 coarse voxels for each fine one.
        taps = {"convolve_upsampled": 64, "convolve_transposed": 8}.get(self.kind, 27)
        is_spread = self.kind in ("convolve_upsampled", "convolve_transposed")
        grid = self._features if is_spread else self._result
        return taps * math.prod(grid.shape[1:4]) * math.prod(self.channels)

    @property
    def _features(self) -> jax.ShapeDtypeStruct:
        shape = (1, self.side, self.side, self.side, self.channels[0])
        return jax.ShapeDtypeStruct(shape, jnp.dtype(self.dtype))

    @property
    def _kernel(self) -> jax.ShapeDtypeStruct:
        size = 2 if self.kind == "convolve_transposed" else 3
        return jax.ShapeDtypeStruct((size,) * 3 + self.channels, jnp.dtype(self.dtype))

    @functools.cached_property
    def _result(self) -> jax.ShapeDtypeStruct:
        plain = self.forms()[PLAIN]
        return jax.eval_shape(plain.forward, self._features, self._kernel)

    def row(self, target: jaxswap.Target) -> Row:
        """What names the case among the results, and its two limits."""
        named = dataclasses.asdict(self) | {"channels": list(self.channels)}
        return named | {"target": target.name} | self.limits(target)


def cases(target: jaxswap.Target, scale: int = 1) -> list[Case]:
    """All cases of a GPU, what is asked most first. Sides are divided by `scale`.

    Forms that no GPU has run yet come last: they could end the process.
    """
    plain = [
        Case(kind, side // scale, channels, dtype, pass_name, PLAIN)
        for kind, side, channels, dtype in CONVOLUTIONS
        for pass_name in (*PASSES, *((WITH_MOMENTS,) if kind == "convolve" else ()))
    ]
    found = [
        (form.is_untried, dataclasses.replace(case, form=name))
        for case in plain
        for name, form in case.forms().items()
        if form.runs_on(target.compute_capability)
    ]
    return [case for _, case in sorted(found, key=lambda each: each[0])]


def main(arguments: list[str] | None = None) -> None:
    """Time, compile, or show what was timed."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.convolutions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60, help="stop after")
    parser.add_argument("--target", help="compile for this GPU, time nothing")
    parser.add_argument("--scale", type=int, default=1, help="divide sides by this")
    parser.add_argument("--table", action="store_true", help="show the results")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    if options.table:
        rows = harness.rows_of(options.output)
        print(table(r for r in rows if options.target in (None, r["target"])))
        return
    try:
        target = jaxswap.find_target(options.target)
    except ValueError as error:
        parser.error(str(error))
    made = cases(target, options.scale)
    if options.target:
        rows = compiled(made, target)
    else:
        rows = timed(made, target, options.seconds)
    for row in rows:
        harness.record(row, options.output)


def compiled(made: Iterable[Case], target: jaxswap.Target) -> Iterator[Row]:
    """Compile each case for a GPU that need not be there."""
    for case in made:
        seen = jaxswap.inspect(case.run, *case.types, target=target)
        yield case.row(target) | {
            "temp_bytes": seen.temp_bytes,
            "workspace_bytes": seen.workspace_bytes,
            "compile_seconds": seen.compile_seconds,
        }


def timed(
    made: list[Case], target: jaxswap.Target, most_seconds: float
) -> Iterator[Row]:
    """Compile all cases in threads, then time them in their order until time is up.

    Compiling tunes convolutions on the GPU, so nothing is timed meanwhile.
    """
    start = time.monotonic()
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)
    built = [pool.submit(_built, case) for case in made]
    concurrent.futures.wait(built, timeout=COMPILED_SHARE * most_seconds)
    for waiting in built:
        waiting.cancel()
    concurrent.futures.wait([b for b in built if not b.cancelled()])
    expected: dict[tuple[Any, ...], Any] = {}
    for case, program in zip(made, built, strict=True):
        if time.monotonic() - start > most_seconds:
            return
        if program.cancelled():
            continue
        yield case.row(target) | _timed(case, program.result(), expected)


def _built(case: Case) -> jax.stages.Compiled:
    step = jaxswap.jit(case.run)
    return step.lower(*case.types).compile()


def _timed(case: Case, program: Any, expected: dict[tuple[Any, ...], Any]) -> Row:
    """Time one pass. The first form of each pass is the plain one."""
    arrays = draw(case.types)
    result = program(*arrays)
    right = expected.setdefault((*dataclasses.astuple(case)[:-1],), result)
    results = zip(jax.tree.leaves(result), jax.tree.leaves(right), strict=True)
    spread = harness.seconds(lambda: program(*arrays), REPEATS)
    return spread | {
        "temp_bytes": program.memory_analysis().temp_size_in_bytes,
        "relative_error": max(relative_error(*both) for both in results),
    }


def table(rows: Iterable[Row]) -> str:
    """The time of each form beside the limits, fastest first within a pass."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        name = (
            row["kind"],
            row["side"],
            *row["channels"],
            row["dtype"],
            row["pass_name"],
        )
        groups.setdefault((row["target"], *name), []).append(row)
    lines = [
        "| GPU | convolution | pass | form | ms | of plain | bytes | operations | "
        "error | temp MiB |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for (target, kind, side, narrow, wide, dtype, pass_name), group in groups.items():
        newest = {row["form"]: row for row in group}
        plain = newest.get(PLAIN, {}).get("min_seconds")
        of = f"{kind} {narrow} -> {wide}, {side}^3, {dtype}"
        for row in sorted(newest.values(), key=lambda r: r.get("min_seconds", 0)):
            cells = (target, of, pass_name, row["form"], *_numbers(row, plain))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _numbers(row: Row, plain_seconds: float | None) -> tuple[str, ...]:
    took = row.get("min_seconds")
    return (
        _milliseconds(took),
        "–" if took is None or plain_seconds is None else f"{took / plain_seconds:.2f}",
        _milliseconds(row["bytes_seconds"]),
        _milliseconds(row["operations_seconds"]),
        f"{row['relative_error']:.0e}" if "relative_error" in row else "–",
        f"{row['temp_bytes'] / 2**20:.1f}",
    )


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.3f}"


if __name__ == "__main__":
    main()
