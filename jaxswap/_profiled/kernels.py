"""Kernels of a step, added up by what they compute."""

import collections
import dataclasses
from collections.abc import Iterable

from jaxswap._view.step import LaneSpan


@dataclasses.dataclass(frozen=True, slots=True)
class KernelTime:
    """All kernels of a step that have one label.

    Attributes:
        label: What they compute, as JAX's path of the operation: modules and named
            scopes of the source. If XLA did not say, the kernel's own name.
        source: `file:line` of the source. `""` if unknown.
        count: How many kernels there are.
        seconds: Seconds of all of them.
    """

    label: str
    source: str
    count: int
    seconds: float


def kernel_times(
    spans: Iterable[LaneSpan], *, by_name: bool = False
) -> tuple[KernelTime, ...]:
    """Add up kernels of one kind.

    Args:
        spans: Spans of a step. Copies to and from the host do not count.
        by_name: Whether kernels of one name are one kind. If not, those of one label.

    Returns:
        One entry for each kind, the longest first.
    """
    groups: collections.defaultdict[str, list[LaneSpan]] = collections.defaultdict(list)
    for span in spans:
        if span.lane == "compute":
            groups[span.name if by_name else span.label or span.name].append(span)
    found = [
        KernelTime(label, group[0].source, len(group), sum(s.seconds for s in group))
        for label, group in groups.items()
    ]
    return tuple(sorted(found, key=lambda kernels: -kernels.seconds))
