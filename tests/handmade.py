"""Programs written by hand as graphs, for tests that need no JAX."""

from collections.abc import Sequence

import numpy as np

from jaxswap._graph import Equation, Graph, Value

MIB = 1 << 20


class Builder:
    """Adds values and equations one by one."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.equations: list[Equation] = []
        self.arguments: list[int] = []
        self.cotangents: list[int] = []

    def value(self, nbytes: int, primitive: str = "argument") -> int:
        self.values.append(
            Value(
                index=len(self.values),
                nbytes=nbytes,
                shape=(nbytes // 4 or 1, 1),
                dtype=np.dtype(np.float32),
                primitive=primitive,
                is_argument=primitive == "argument",
            )
        )
        return len(self.values) - 1

    def argument(self, nbytes: int = MIB) -> int:
        self.arguments.append(self.value(nbytes))
        return self.arguments[-1]

    def cotangent(self, nbytes: int = 4) -> int:
        self.cotangents.append(self.value(nbytes))
        return self.cotangents[-1]

    def run(
        self,
        primitive: str,
        inputs: Sequence[int],
        nbytes: int,
        *,
        is_backward: bool = False,
        is_pure: bool = True,
    ) -> int:
        """Add an equation; `dot` is heavy, `view` a view, the others cheap."""
        output = self.value(nbytes, primitive)
        self.equations.append(
            Equation(
                index=len(self.equations),
                primitive=primitive,
                inputs=tuple(inputs),
                outputs=(output,),
                flops=1e12 if primitive == "dot" else float(nbytes),
                is_backward=is_backward,
                is_heavy=primitive == "dot",
                is_view=primitive == "view",
                is_cheap=primitive != "dot",
                is_pure=is_pure,
            )
        )
        return output

    def graph(self, outputs: Sequence[int], gradients: Sequence[int] = ()) -> Graph:
        return Graph(
            values=tuple(self.values),
            equations=tuple(self.equations),
            arguments=tuple(self.arguments),
            outputs=tuple(outputs),
            cotangents=tuple(self.cotangents),
            gradients=tuple(gradients),
        )


def chain(depth: int, nbytes: int = 64 * MIB) -> Graph:
    """`h = tanh(h @ w)`, `depth` times, with its backward pass, as JAX traces it."""
    b = Builder()
    x = b.argument(nbytes)
    weights = [b.argument() for _ in range(depth)]
    activations = [x]
    for w in weights:
        z = b.run("dot", [activations[-1], w], nbytes)
        activations.append(b.run("tanh", [z], nbytes))
    slopes = [b.run("slope", [h], nbytes) for h in activations[1:]]
    loss = b.run("sum", [activations[-1]], 4)
    g = b.run("broadcast", [b.cotangent()], nbytes, is_backward=True)
    gradients = []
    for w, h, slope in reversed(
        list(zip(weights, activations[:-1], slopes, strict=True))
    ):
        g = b.run("mul", [g, slope], nbytes, is_backward=True)
        gradients.append(b.run("dot", [h, g], MIB, is_backward=True))
        g = b.run("dot", [g, w], nbytes, is_backward=True)
    return b.graph([loss], gradients)


def results_of(graph: Graph, primitive: str, *, is_backward: bool = False) -> list[int]:
    """Values made by equations of one primitive, in order."""
    return [
        v
        for eqn in graph.equations
        if eqn.primitive == primitive and eqn.is_backward == is_backward
        for v in eqn.outputs
    ]
