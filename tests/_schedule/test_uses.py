"""What is known of entries, whatever is swapped over them."""

from handmade import chain, results_of

from jaxswap._graph.graph import Action
from jaxswap._schedule.instructions import Run
from jaxswap._schedule.issue import issue, order
from jaxswap._schedule.uses import Uses

GRAPH = chain(4)
REPLAYED = set(results_of(GRAPH, "tanh"))
ACTIONS = [
    Action.RECOMPUTE if v.index in REPLAYED else Action.KEEP for v in GRAPH.values
]
ENTRIES = order(GRAPH, ACTIONS, 6, 1)
USES = Uses(GRAPH, ENTRIES)


def test_results_and_gradients_are_used_to_the_end() -> None:
    for v in (*GRAPH.outputs, *GRAPH.gradients):
        assert USES.last_use[v] == len(ENTRIES)


def test_other_values_are_used_until_they_are_last_read() -> None:
    for v, last in USES.last_use.items():
        if last < len(ENTRIES):
            assert v in ENTRIES[last].reads
            assert all(v not in entry.reads for entry in ENTRIES[last + 1 :])


def test_an_entry_is_quiet_while_all_that_it_reads_is_read_again() -> None:
    assert any(at >= 0 for at in USES.quiet_until)
    for entry, until in zip(ENTRIES, USES.quiet_until, strict=True):
        if until >= 0:
            assert all(USES.last_use[v] >= until for v in entry.reads)
            assert any(USES.last_use.get(v, -1) >= until for v in entry.makes)


def test_replays_are_forward_entries_in_the_backward_pass() -> None:
    made = {
        v
        for e, is_r in zip(ENTRIES, USES.is_replay, strict=True)
        if is_r
        for v in e.makes
    }
    assert REPLAYED & made
    assert not any(
        is_replay and not entry.is_backward
        for entry, is_replay in zip(ENTRIES, USES.is_replay, strict=True)
    )


def test_schedules_are_the_same_with_and_without() -> None:
    assert issue(GRAPH, ENTRIES, (), USES) == issue(GRAPH, ENTRIES, ())
    runs = [run for runs in USES.runs for run in runs]
    schedule = issue(GRAPH, ENTRIES, (), USES)
    issued = (*schedule.forward, *schedule.backward)
    assert [step for step in issued if isinstance(step, Run)] == runs
