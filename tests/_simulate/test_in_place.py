"""Results take the place of operands that nothing reads later."""

import dataclasses

from handmade import MIB, Builder, by_hand, rates

from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.instructions import Barrier, InPlace, Run, Schedule, SwapOut
from jaxswap._simulate.draft import Arranger
from jaxswap._simulate.in_place import written_in_place
from jaxswap._simulate.kernels import Fusion
from jaxswap._simulate.simulate import LOOP_LAUNCHES, Simulator

CHEAP = ("tanh", "mul", "slope", "name")


def in_parts(graph: Graph) -> Graph:
    """Say that what is cheap computes in parts."""
    equations = tuple(
        dataclasses.replace(eqn, is_in_parts=eqn.primitive in CHEAP)
        for eqn in graph.equations
    )
    return dataclasses.replace(graph, equations=equations)


def layers() -> Graph:
    """A product, `tanh` of it, another product, and a loss."""
    b = Builder()
    made = b.run("dot", [b.argument()], MIB)
    wide = b.run("tanh", [made], MIB)
    b.run("dot", [wide], MIB)
    return in_parts(b.graph([b.run("sum", [3], 4)]))


def replaced(graph: Graph, schedule: Schedule, least: int = 1) -> dict[int, InPlace]:
    """The operands that are written over, by the equation that does it."""
    written = written_in_place(Fusion(graph), schedule, least)
    runs = (s for s in (*written.forward, *written.backward) if isinstance(s, Run))
    return {run.equation: run.in_place for run in runs if run.in_place}


def test_a_result_takes_the_place_of_a_product() -> None:
    graph, schedule = layers(), by_hand(range(4))
    assert replaced(graph, schedule) == {1: InPlace((1,), (1,))}
    simulator = Simulator(graph, rates())
    before = simulator.play(schedule)
    after = simulator.play(written_in_place(simulator.fusion, schedule, 1))
    assert max(before.device_bytes_at) - max(after.device_bytes_at) == 0
    assert before.device_bytes_at[1] - after.device_bytes_at[1] == MIB
    loop_seconds = LOOP_LAUNCHES * simulator.rates.launch_seconds
    assert after.seconds == before.seconds + loop_seconds


def test_what_is_read_later_stays() -> None:
    b = Builder()
    made = b.run("dot", [b.argument()], MIB)
    wide = b.run("tanh", [made], MIB)
    b.run("dot", [wide, made], MIB)
    graph = in_parts(b.graph([b.run("sum", [3], 4)]))
    assert not replaced(graph, by_hand(range(4)))


def test_small_results_are_not_worth_a_loop() -> None:
    assert not replaced(layers(), by_hand(range(4)), least=MIB + 1)


def test_results_of_the_caller_have_a_place_of_their_own() -> None:
    b = Builder()
    wide = b.run("tanh", [b.run("dot", [b.argument()], MIB)], MIB)
    assert not replaced(in_parts(b.graph([wide])), by_hand(range(2)))


def test_arguments_are_not_written_over() -> None:
    b = Builder()
    wide = b.run("tanh", [b.argument()], MIB)
    graph = in_parts(b.graph([b.run("sum", [b.run("dot", [wide], MIB)], 4)]))
    assert not replaced(graph, by_hand(range(3)))


def test_what_lies_between_is_computed_in_parts_too() -> None:
    b = Builder()
    made = b.run("dot", [b.argument()], MIB)
    factor = b.run("dot", [b.argument(4)], 4)
    between = b.run("mul", [made, factor], MIB)
    wide = b.run("tanh", [between], MIB)
    graph = in_parts(b.graph([b.run("sum", [b.run("dot", [wide], MIB)], 4)]))
    assert replaced(graph, by_hand(range(6))) == {3: InPlace((made,), (made, factor))}


def test_a_piece_of_an_operand_is_read_whole_so_nothing_is_written_over_it() -> None:
    b = Builder()
    made = b.run("dot", [b.argument()], MIB)
    piece = b.run("pick", [made], 4)
    wide = b.run("mul", [made, piece], MIB)
    graph = in_parts(b.graph([b.run("sum", [b.run("dot", [wide], MIB)], 4)]))
    assert not replaced(graph, by_hand(range(5)))


def test_what_a_barrier_hands_on_has_another_name() -> None:
    b = Builder()
    made = b.run("dot", [b.argument()], MIB)
    behind = b.run("optimization_barrier", [made], MIB)
    wide = b.run("tanh", [behind], MIB)
    graph = b.graph([b.run("sum", [b.run("dot", [wide], MIB)], 4)])
    equations = list(graph.equations)
    equations[1] = dataclasses.replace(equations[1], is_cheap=False, is_view=True)
    graph = in_parts(dataclasses.replace(graph, equations=tuple(equations)))
    assert replaced(graph, by_hand(range(5))) == {2: InPlace((behind,), (behind,))}


def test_the_backward_pass_is_given_what_it_computes_parts_of() -> None:
    b = Builder()
    made = b.run("dot", [b.argument()], MIB)
    slope = b.run("slope", [made], MIB)
    g = b.cotangent()
    wide = b.run("dot", [g], MIB, is_backward=True)
    product = b.run("mul", [wide, slope], MIB, is_backward=True)
    graph = in_parts(b.graph([made], [b.run("dot", [product], MIB, is_backward=True)]))
    schedule = by_hand(range(2), range(2, 5))
    written = written_in_place(Fusion(graph), schedule, 1)
    assert {made, slope} <= {*written.device_residuals}


def test_values_that_a_barrier_holds_are_buffers() -> None:
    graph = layers()
    schedule = by_hand(range(4))
    held = dataclasses.replace(
        schedule, forward=(*schedule.forward[:2], Barrier((2,)), *schedule.forward[2:])
    )
    assert replaced(graph, held) == {1: InPlace((1,), (1,))}


def test_nothing_is_written_over_what_is_being_copied() -> None:
    graph = layers()
    runs = by_hand(range(4)).forward
    leaving = (runs[0], SwapOut(1), runs[1], Barrier((), (1,)), *runs[2:])
    arrived = (runs[0], SwapOut(1), Barrier((), (1,)), *runs[1:])
    for forward, is_written in ((leaving, False), (arrived, True)):
        schedule = dataclasses.replace(by_hand(range(4)), forward=forward)
        assert bool(replaced(graph, schedule)) is is_written


def test_other_readers_are_awaited() -> None:
    b = Builder()
    made = b.run("dot", [b.argument()], MIB)
    other = b.run("dot", [made], 4)
    wide = b.run("tanh", [made], MIB)
    graph = b.graph([b.run("sum", [b.run("dot", [wide, other], MIB)], 4)])
    found = replaced(in_parts(graph), by_hand(range(5)))
    assert found == {2: InPlace((made,), (made,), (other,))}


def test_results_are_written_in_place_where_the_limit_asks_for_it() -> None:
    graph = layers()
    arranger = Arranger(graph, rates())
    kept = (Action.KEEP,) * len(graph.values)
    needed = arranger.arrange(kept, 1 << 40).timeline.device_bytes
    assert not arranger.arrange(kept, needed).in_place_bytes
    assert arranger.arrange(kept, needed - 1).in_place_bytes
    assert not arranger.arrange(kept, needed - 1, in_place=False).in_place_bytes
