"""How well does the cost model predict what was timed on a GPU?

python -m benchmarks.accuracy            steps, kernels, convolutions, memory
python -m benchmarks.accuracy --fit      the shares that predict the steps best, and
                                         each workload predicted from the others alone

The rows were timed on an H200. Their programs are kept beside them, so that this runs
anywhere, without JAX and without a GPU. `jaxswap._gpu.published` holds the shares.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Iterable

from benchmarks.accuracy import fit, predictions
from benchmarks.accuracy.predictions import Row
from jaxswap._gpu.published import USUAL
from jaxswap._gpu.target import built_in_target, published_rates

_H200 = built_in_target("h200")


def main(arguments: list[str] | None = None) -> None:
    """Print measured, predicted and error of each row."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--fit", action="store_true", help="fit the shares anew")
    if parser.parse_args(arguments).fit:
        print(_fitted())
        return
    rates = published_rates(_H200)
    print(table("Seconds of a step, ms", predictions.steps(rates), 1e3))
    print(table("Kinds of kernels, ms", predictions.kernels(rates), 1e3))
    print(table("Single convolutions, ms", predictions.convolutions(rates), 1e3))
    print(table("Temporary memory, MiB", predictions.device_bytes(), 2**-20))


def table(title: str, rows: Iterable[Row], scale: float) -> str:
    """Return rows and the errors of all of them as Markdown."""
    found = list(rows)
    lines = [
        f"## {title}\n",
        "| program | method | channels | measured | predicted | error |",
        "|---|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {row.workload} | {row.method} | {row.layout} | {row.measured * scale:.4g} "
        f"| {row.predicted * scale:.4g} | {row.error:+.1%} |"
        for row in found
    ]
    return "\n".join([*lines, f"\n{summary(found)}\n"])


def summary(rows: Iterable[Row]) -> str:
    """Return the median and the worst error in words."""
    errors = sorted(abs(row.error) for row in rows)
    return (
        f"{len(errors)} rows: the median error is {statistics.median(errors):.1%}, "
        f"the worst {errors[-1]:.1%}."
    )


def _fitted() -> str:
    """Return the fitted shares, and what they predict of workloads they did not see."""
    shares = fit.fitted_shares()
    lines = ["## Shares\n", "| share | shipped | fitted |", "|---|---:|---:|"]
    lines += [
        f"| {name} | {getattr(USUAL, name):.3g} | {value:.3g} |"
        for name, value in dataclasses.asdict(shares).items()
        if name in fit.FITTED
    ]
    rates = published_rates(_H200, shares)
    lines.append(f"\nSteps: {summary(predictions.steps(rates))}\n")
    left_out = list(fit.leave_one_out())
    lines.append(table("Each workload predicted from the others, ms", left_out, 1e3))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
