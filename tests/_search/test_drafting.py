"""Drafts are laid out under the terms of a search, and offered to the best one."""

import dataclasses

from handmade import MIB, Builder, chain, products, rates, results_of

from jaxswap._graph.graph import Action, Graph
from jaxswap._search.best import PATIENCES
from jaxswap._search.candidates import find_candidates
from jaxswap._search.drafting import Drafting, Terms
from jaxswap._search.lessons import Lessons
from jaxswap._search.limits import Limits
from jaxswap._search.trial import Trial, draft_of
from jaxswap._simulate.draft import Arranger, Draft
from jaxswap._sketch.program import CODES
from jaxswap._sketch.sketch import codes
from jaxswap.policies import OffloadDots

OWN, ANY = Limits.smallest(None), Limits.smallest(None, is_own=False)


def one_layer() -> Graph:
    """A product, `tanh` of it, and a small product: two arrays at once, or one."""
    b = Builder()
    wide = b.run("tanh", [b.run("dot", [b.argument()], 64 * MIB)], 64 * MIB)
    graph = b.graph([b.run("dot", [wide], 4)])
    equations = tuple(
        dataclasses.replace(eqn, is_in_parts=eqn.primitive == "tanh")
        for eqn in graph.equations
    )
    return dataclasses.replace(graph, equations=equations)


def made(graph: Graph) -> Drafting:
    arranger = Arranger(graph, rates(), MIB)
    candidates = find_candidates(graph, arranger.simulator.fusion, MIB)
    return Drafting(arranger, candidates, [OffloadDots()])


def test_results_are_written_in_place_where_the_terms_allow_it() -> None:
    drafting = made(one_layer())
    kept = codes(drafting.kept.actions)

    def laid(in_place: bool) -> Draft:
        best = drafting.best(Limits(0), Lessons())
        terms = Terms(in_place=in_place)
        return drafting.offer(best, terms, kept, PATIENCES[0], 0).draft

    assert laid(in_place=False).in_place_bytes == 0
    assert laid(in_place=True).in_place_bytes > 0


def test_the_best_drafts_are_laid_out_again_on_other_terms() -> None:
    drafting = made(one_layer())
    best = drafting.best(Limits(drafting.kept.timeline.device_bytes - 1), Lessons())
    assert not best.fits
    drafting.offer_best_again(best, Terms())
    assert draft_of(best.draft).in_place_bytes > 0
    assert best.fits


def test_the_best_draft_is_tried_with_values_held_for_other_times() -> None:
    drafting = made(products(8))
    forward = results_of(drafting.arranger.graph, "dot")
    numbers = codes(drafting.kept.actions)
    numbers[forward] = CODES[Action.RECOMPUTE]
    numbers[forward[4]] = CODES[Action.KEEP]
    best = drafting.best(Limits(0), Lessons())
    (held, *_) = drafting.offering(best, Terms())(numbers, 0)
    assert best.draft is held
    drafting.offer_holds(best, Terms())
    assert draft_of(best.draft).hold_for > 0
    assert best.draft.actions == held.actions
    assert best.draft.timeline.device_bytes < held.timeline.device_bytes


def test_what_has_to_stay_is_not_swapped() -> None:
    drafting = made(products(4))
    value = results_of(drafting.arranger.graph, "dot")[0]
    numbers = codes(drafting.kept.actions)
    numbers[value] = CODES[Action.OFFLOAD]
    best = drafting.best(Limits(0), Lessons())
    (trial, *_) = drafting.offering(best, Terms())(numbers, 0)
    assert {swap.value for swap in trial.swaps} == {value}
    grounded = Terms(Lessons(grounded=frozenset({value})))
    (trial, *_) = drafting.offering(best, grounded)(numbers, 0)
    assert not trial.swaps


def test_where_drafts_of_policies_are_not_wanted_none_is_the_best() -> None:
    drafting = made(chain(8))
    best = drafting.best(ANY, Lessons())
    drafting.start(best, Terms(), 0)
    mine = [d for d in drafting.front if isinstance(d, Trial) and d.is_followed]
    assert mine
    smallest = min(draft.timeline.device_bytes for draft in mine)
    drafting.front.drop(lambda draft: draft not in mine)
    assert drafting.best(ANY, Lessons()).draft.timeline.device_bytes == smallest
    assert drafting.best(OWN, Lessons()).draft.timeline.device_bytes > smallest


def test_searches_for_the_least_memory_start_without_policies() -> None:
    drafting = made(chain(8))
    drafting.start(drafting.best(OWN, Lessons()), Terms(), 0)
    assert not any(isinstance(d, Trial) and d.is_followed for d in drafting.front)
