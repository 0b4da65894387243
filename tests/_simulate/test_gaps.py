"""What XLA's order of placing buffers leaves free, from lives written out by hand."""

import random

from handmade import MIB, chain, rates

from jaxswap._graph.graph import Action
from jaxswap._simulate.draft import Arranger
from jaxswap._simulate.gaps import Life, continued, gap_bytes, lives_of

# Two are alive at once. The second of these takes the lower place, which is free at
# step 8. So the third overlaps with something in both places.
PINNED = [(5, 7), (8, 9), (7, 8), (1, 6)]


def lives(*spans: tuple[int, int], nbytes: int = 1) -> list[Life]:
    return [Life(start, end, nbytes) for start, end in spans]


def test_equal_lives_leave_no_gap() -> None:
    assert gap_bytes([]) == 0
    assert gap_bytes(lives((0, 9), (0, 9), (0, 9))) == 0
    assert gap_bytes(lives((0, 2), (3, 5), (6, 8))) == 0


def test_what_was_placed_before_may_be_in_the_way_in_every_place() -> None:
    assert gap_bytes(lives(*PINNED, nbytes=10)) == 10
    by_start = sorted(PINNED)
    assert gap_bytes(lives(*by_start, nbytes=10)) == 0


def test_of_two_orders_the_one_that_needs_less_counts() -> None:
    """One places the large buffer first, the other one the long life."""
    for_long_lives = [Life(8, 9, 3), Life(6, 7, 2), Life(1, 6, 2), Life(7, 9, 2)]
    for_large_ones = [Life(9, 9, 2), Life(1, 7, 1), Life(7, 9, 3)]
    assert gap_bytes(for_long_lives) == gap_bytes(for_large_ones) == 0


def test_a_buffer_goes_into_the_smallest_gap_that_holds_it() -> None:
    below = [Life(0, 9, 100), Life(0, 4, 40), Life(0, 9, 30), Life(0, 4, 20)]
    fitting = Life(5, 9, 20)  # Where 40 or 20 bytes are free.
    other = Life(5, 9, 40)
    assert gap_bytes([*below, fitting, other]) == 0


def test_no_gap_is_negative_and_none_exceeds_what_is_not_alive_at_once() -> None:
    rng = random.Random(0)
    for _ in range(200):
        some = []
        for _ in range(rng.randint(1, 12)):
            start = rng.randint(0, 20)
            some.append(Life(start, start + rng.randint(0, 9), rng.randint(1, 5)))
        assert 0 <= gap_bytes(some) <= sum(life.nbytes for life in some)


def test_a_kernel_may_write_over_what_nothing_reads_any_more() -> None:
    graph = chain(3, nbytes=MIB)
    arranger = Arranger(graph, rates())
    draft = arranger.arrange((Action.RECOMPUTE,) * len(graph.values), 0)
    all_lives = lives_of(graph, draft.timeline)
    fewer = continued(all_lives, graph, draft.timeline, is_any=True)
    assert fewer.keys() < all_lives.keys()
    gone = all_lives.keys() - fewer.keys()
    for b, life in fewer.items():
        assert life.start == all_lives[b].start
        assert life.end >= all_lives[b].end
    ends = {life.end for life in fewer.values()}
    assert {all_lives[b].end for b in gone} <= ends
