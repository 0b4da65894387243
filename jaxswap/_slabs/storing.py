"""Which values the sweeps store, if nothing else is said: what is heavy to make."""

from __future__ import annotations

from jaxswap._slabs.frame import Frame, Kind


def heavy_results(frame: Frame) -> frozenset[int]:
    """Return the results of heavy operations that exist as slabs only.

    Where nothing but a sum of two values reads such a result, the sum stands for it:
    one value to store in place of two.
    """
    floating, users = frame.floating(), frame.users()
    found = set()
    for step in frame.steps:
        if step.kind is not Kind.LOCAL or not step.is_heavy:
            continue
        for v in floating.intersection(step.outputs):
            while len(users.get(v, ())) == 1:
                user = frame.steps[users[v][0]]
                if not (user.is_sum_of_two and user.kind is Kind.LOCAL):
                    break
                (v,) = user.outputs
            found.add(v)
    return frozenset(found & floating)
