"""What is known of entries, whatever is swapped over them."""

from handmade import chain, order_over, results_of

from jaxswap._graph.graph import Action
from jaxswap._schedule.entries import Entry
from jaxswap._schedule.instructions import Run
from jaxswap._schedule.issue import issue
from jaxswap._schedule.order import Order

GRAPH = chain(4)
RECOMPUTED = set(results_of(GRAPH, "tanh"))
ACTIONS = [
    Action.RECOMPUTE if v.index in RECOMPUTED else Action.KEEP for v in GRAPH.values
]
ORDER = Order.of(GRAPH, ACTIONS, 6, 1)
ENTRIES = ORDER.entries


def test_results_and_gradients_are_used_to_the_end() -> None:
    for v in (*GRAPH.outputs, *GRAPH.gradients):
        assert ORDER.last_use[v] == len(ENTRIES)


def test_other_values_are_used_until_they_are_last_read() -> None:
    for v, last in ORDER.last_use.items():
        if last < len(ENTRIES):
            assert v in ENTRIES[last].reads
            assert all(v not in entry.reads for entry in ENTRIES[last + 1 :])


def test_an_entry_is_quiet_while_all_that_it_reads_is_read_again() -> None:
    assert any(at >= 0 for at in ORDER.quiet_until)
    for entry, until in zip(ENTRIES, ORDER.quiet_until, strict=True):
        if until >= 0:
            assert all(ORDER.last_use[v] >= until for v in entry.reads)
            assert any(ORDER.last_use.get(v, -1) >= until for v in entry.makes)


def test_recomputations_in_the_backward_pass_might_run_early() -> None:
    made = {
        v
        for e, is_early in zip(ENTRIES, ORDER.might_run_early, strict=True)
        if is_early
        for v in e.makes
    }
    assert RECOMPUTED & made
    assert not any(
        is_early and not entry.is_backward
        for entry, is_early in zip(ENTRIES, ORDER.might_run_early, strict=True)
    )


def test_runs_are_what_a_schedule_executes() -> None:
    runs = [run for runs in ORDER.runs for run in runs]
    schedule = issue(ORDER, ())
    issued = (*schedule.forward, *schedule.backward)
    assert [step for step in issued if isinstance(step, Run)] == runs


def heavy(at: int, reads: tuple[int, ...] = (), *, is_heavy: bool = True) -> Entry:
    return Entry(((at, False),), reads, (at,), 1e12, is_heavy, at > 3)


LINE = order_over(
    [
        heavy(0),
        heavy(1, (0,)),
        heavy(2),
        heavy(3, is_heavy=False),
        heavy(4),
        heavy(5, (0,)),
    ]
)


def test_a_gap_is_a_stretch_without_a_use_in_which_something_heavy_runs() -> None:
    assert LINE.gaps(0) == [(1, 5)]
    assert LINE.gaps(1) == []
    assert LINE.gaps(77) == []


def test_heavy_entries_are_found_around_a_position() -> None:
    assert LINE.heavy == [0, 1, 2, 4, 5]
    assert LINE.heavy_between(1, 5) == 2
    assert LINE.heavy_between(4, 4) == 0
    assert (LINE.heavy_before(0), LINE.heavy_before(3)) == (None, 2)
    assert (LINE.heavy_after(2), LINE.heavy_after(5)) == (4, None)
