"""Programs written by hand as graphs, for tests that need no JAX."""

from collections.abc import Sequence

import numpy as np

from jaxswap._gpu.rates import Rates
from jaxswap._gpu.work import Work
from jaxswap._graph.graph import Equation, Graph, Value
from jaxswap._schedule.entries import Entry
from jaxswap._schedule.instructions import Instruction, Run, Schedule, Swap, SwapOut
from jaxswap._schedule.order import Order

MIB = 1 << 20
GB = 10**9


def order_over(entries: Sequence[Entry]) -> Order:
    """Return an order of entries that belong to no program."""
    return Order(Graph((), (), (), ()), entries)


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
        flops: float | None = None,
        tile_flops: float = 0.0,
        inner_bytes: float = 0.0,
    ) -> int:
        """Add an equation; `dot` is heavy, `opaque` unknown, all others are cheap.

        A `view` is one, a `sum` a reduction. A `dot` takes a second at `rates()`.
        """
        output = self.value(nbytes, primitive)
        usual_flops = 1e12 if primitive == "dot" else float(nbytes)
        self.equations.append(
            Equation(
                index=len(self.equations),
                primitive=primitive,
                inputs=tuple(inputs),
                outputs=(output,),
                flops=usual_flops if flops is None else flops,
                tile_flops=tile_flops,
                is_backward=is_backward,
                is_heavy=primitive == "dot",
                is_view=primitive == "view",
                is_cheap=primitive not in ("dot", "opaque"),
                is_pure=is_pure,
                is_reduction=primitive == "sum",
                is_known=primitive != "opaque",
                work=Work.BF16_MATMUL if primitive == "dot" else None,
                inner_bytes=inner_bytes,
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


def products(depth: int, nbytes: int = GB) -> Graph:
    """`depth` products one after the other, and a backward pass that reads them all.

    Forward value `i` is `i + 1`, made by equation `i`; the last is the result. The
    backward pass reads them from the last to the first, by equations `depth` and on.
    """
    b = Builder()
    h = b.argument(nbytes)
    made = [h := b.run("dot", [h], nbytes) for _ in range(depth)]
    g = b.cotangent()
    for v in reversed(made):
        g = b.run("dot", [g, v], nbytes, is_backward=True)
    return b.graph([h], [g])


def by_hand(
    forward: Sequence[int | Instruction], backward: Sequence[int | Instruction] = ()
) -> Schedule:
    """A schedule written out; a number runs the equation of that index.

    Equations of the forward pass that `backward` runs once more are recomputations.
    """
    ran = {step for step in forward if isinstance(step, int)}
    swaps = [s for s in (*forward, *backward) if isinstance(s, SwapOut)]
    return Schedule(
        forward=tuple(Run(s) if isinstance(s, int) else s for s in forward),
        backward=tuple(
            Run(s, is_recomputed=s in ran) if isinstance(s, int) else s
            for s in backward
        ),
        device_residuals=(),
        host_residuals=(),
        swaps=tuple(Swap(s.value, 0, None, ()) for s in swaps),
    )


def rates(
    *,
    link: float = 1e9,
    memory: float = 1e12,
    out_share: float = 0.5,
    in_share: float = 0.5,
    launch_seconds: float = 1e-30,
    copy_latency_seconds: float = 1e-30,
    call_seconds: float = 1e-30,
) -> Rates:
    """Round numbers: a `dot` takes a second, so does the copy of a `GB`.

    What has to be positive and should not count is too small to change any sum.
    """
    return Rates(
        bf16_matmul_flops_per_second=1e12,
        tf32_matmul_flops_per_second=1e12,
        fp32_matmul_flops_per_second=1e12,
        bf16_convolution_flops_per_second=1e12,
        tf32_convolution_flops_per_second=1e12,
        fp32_convolution_flops_per_second=1e12,
        bf16_kernel_gradient_flops_per_second=1e12,
        tf32_kernel_gradient_flops_per_second=1e12,
        fp32_kernel_gradient_flops_per_second=1e12,
        memory_bytes_per_second=memory,
        reduction_bytes_per_second=memory,
        conversion_bytes_per_second=memory,
        swap_out_bytes_per_second=link,
        swap_in_bytes_per_second=link,
        swap_out_both_ways_share=out_share,
        swap_in_both_ways_share=in_share,
        copy_latency_seconds=copy_latency_seconds,
        launch_seconds=launch_seconds,
        tiles_at_once=1.0,
        call_seconds=call_seconds,
        pinning_bytes_per_second=link,
    )


def results_of(graph: Graph, primitive: str, *, is_backward: bool = False) -> list[int]:
    """Values made by equations of one primitive, in order."""
    return [
        v
        for eqn in graph.equations
        if eqn.primitive == primitive and eqn.is_backward == is_backward
        for v in eqn.outputs
    ]
