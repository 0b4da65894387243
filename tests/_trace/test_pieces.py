"""A program whose values can be stored in pieces has the operations for it."""

import jax
import jax.numpy as jnp

from jaxswap._graph.pieces import Pieces
from jaxswap._run.loss import loss_source
from jaxswap._search.ways import keep_all
from jaxswap._trace.describe import Traced

WEIGHTS = [jax.ShapeDtypeStruct((4, 4), jnp.float32)] * 3
X = jax.ShapeDtypeStruct((6, 4), jnp.float32)


def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


def traced(*pieces: Pieces) -> Traced:
    source = loss_source(loss, (WEIGHTS, X), {}, 0, False)
    return source.cut(None, pieces).traced(keep_all)


def products() -> list[int]:
    return [
        eqn.outputs[0]
        for eqn in traced().graph.equations
        if eqn.primitive == "tanh" and not eqn.is_backward
    ]


def test_pieces_are_cut_where_the_forward_pass_has_read_the_value_last() -> None:
    v, whole = products()[0], traced().graph
    graph = traced(Pieces(v, 0, 3)).graph
    cuts = [eqn for eqn in graph.equations if eqn.is_cut]
    assert [eqn.inputs for eqn in cuts] == [(v,)] * 3
    before = graph.equations[cuts[0].index - 1]
    assert v in before.inputs
    behind = graph.equations[cuts[-1].index + 1 :]
    assert not any(v in e.inputs and not e.is_backward for e in behind)
    pieces = [graph.values[e.outputs[0]] for e in cuts]
    assert [p.shape for p in pieces] == [(2, 4)] * 3
    assert {p.label for p in pieces} == {whole.values[v].label}


def test_values_keep_their_numbers_and_equations_their_pass() -> None:
    whole, v = traced().graph, products()[1]
    graph = traced(Pieces(v, 1, 2)).graph
    assert graph.values[: len(whole.values)] == whole.values
    own = [e for e in graph.equations if not (e.is_cut or e.is_join)]
    assert [(e.inputs, e.outputs, e.is_backward) for e in own] == [
        (e.inputs, e.outputs, e.is_backward) for e in whole.equations
    ]
    assert [e.index for e in graph.equations] == list(range(len(graph.equations)))


def test_the_backward_pass_makes_the_value_again_of_its_pieces() -> None:
    v = products()[0]
    graph = traced(Pieces(v, 0, 2)).graph
    join = graph.remakers()[v]
    assert join.is_join
    assert join.outputs == (v,)
    assert join.inputs == tuple(e.outputs[0] for e in graph.equations if e.is_cut)
    assert graph.producers()[v].primitive == "tanh"
    other = products()[1]
    assert graph.remakers()[other] == graph.producers()[other]
