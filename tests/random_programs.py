"""Random small training programs as graphs; `brute_force` finds their optimum.

A program is a random network of products, element-wise operations, normalizations,
poolings, skips and fan-out, differentiated as JAX would: each operation leaves the
residuals that its own backward operations read. Sizes, arithmetic and the GPU's rates
are drawn so that copies take about as long as the products that hide them.
"""

import dataclasses
import random
from collections.abc import Sequence

import numpy as np

from jaxswap._gpu.rates import Rates
from jaxswap._gpu.target import Target, built_in_target
from jaxswap._gpu.work import Work
from jaxswap._graph.graph import Equation, Graph, Value
from jaxswap._request import search_of
from jaxswap._search.candidates import Candidates
from jaxswap._search.limits import Limits
from jaxswap._search.search import Found, Search
from jaxswap._simulate.draft import Arranger

MIB = 1 << 20
LIMITS = (0.8, 0.65, 0.5, 0.4)
"""Shares of what the program needs if everything is kept."""
FLOPS = 100e12
LINK = 25e9
KINDS = ("dot", "tanh", "norm", "add", "mul", "pool", "reshape", "opaque")
WEIGHTS = (10, 6, 2, 3, 2, 1.5, 1, 0.5)


def draw_rates(rng: random.Random) -> Rates:
    """A GPU whose link is as fast as `LINK`, or slower or faster by some factor."""
    link = LINK * rng.choice((0.25, 0.5, 1.0, 1.0, 2.0))
    swap_in = link * rng.choice((0.8, 1.0, 1.2))
    both_ways = rng.choice((0.5, 0.75, 1.0))
    return Rates(
        bf16_matmul_flops_per_second=FLOPS,
        tf32_matmul_flops_per_second=FLOPS,
        fp32_matmul_flops_per_second=FLOPS,
        bf16_convolution_flops_per_second=FLOPS,
        tf32_convolution_flops_per_second=FLOPS,
        fp32_convolution_flops_per_second=FLOPS,
        bf16_kernel_gradient_flops_per_second=FLOPS,
        tf32_kernel_gradient_flops_per_second=FLOPS,
        fp32_kernel_gradient_flops_per_second=FLOPS,
        memory_bytes_per_second=2e12,
        reduction_bytes_per_second=2e12,
        conversion_bytes_per_second=1e12,
        swap_out_bytes_per_second=link,
        swap_in_bytes_per_second=swap_in,
        swap_out_both_ways_share=both_ways,
        swap_in_both_ways_share=both_ways,
        copy_latency_seconds=1e-5,
        launch_seconds=3e-6,
        tiles_at_once=1.0,
        call_seconds=1e-3,
        pinning_bytes_per_second=1e9,
    )


class Network:
    """A network that is built forward, and then backward from its end."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.values: list[Value] = []
        self.equations: list[Equation] = []
        self.arguments: list[int] = []
        self.tape: list[tuple[str, tuple[int, ...], int, tuple[int, ...], float]] = []

    def value(self, nbytes: int, primitive: str = "argument") -> int:
        """Add a value."""
        self.values.append(
            Value(
                index=len(self.values),
                nbytes=nbytes,
                shape=(max(1, nbytes // 4), 1),
                dtype=np.dtype(np.float32),
                primitive=primitive,
                is_argument=primitive == "argument",
            )
        )
        return len(self.values) - 1

    def argument(self, nbytes: int) -> int:
        """Add an argument of the function."""
        self.arguments.append(self.value(nbytes))
        return self.arguments[-1]

    def nbytes(self, v: int) -> int:
        """Size of a value."""
        return self.values[v].nbytes

    def run(
        self,
        primitive: str,
        inputs: Sequence[int],
        nbytes: int,
        *,
        flops: float = 0.0,
        is_backward: bool = False,
    ) -> int:
        """Add an equation; its primitive says of what kind it is."""
        output = self.value(nbytes, primitive)
        is_heavy = primitive == "dot"
        is_view = primitive == "reshape"
        is_other = primitive in ("pool", "unpool", "opaque")
        self.equations.append(
            Equation(
                index=len(self.equations),
                primitive=primitive,
                inputs=tuple(inputs),
                outputs=(output,),
                flops=flops if is_heavy else float(nbytes),
                is_backward=is_backward,
                is_heavy=is_heavy,
                is_view=is_view,
                is_cheap=not (is_heavy or is_other),
                is_pure=primitive != "opaque",
                is_reduction=primitive in ("mean", "sum"),
                work=Work.TF32_MATMUL if is_heavy else None,
            )
        )
        return output

    def layer(self, kind: str, inputs: tuple[int, ...]) -> int:
        """Add an operation of the forward pass and note it on the tape."""
        nbytes = self.nbytes(inputs[0])
        saved: tuple[int, ...] = ()
        flops = 0.0
        if kind == "dot":
            scale = self.rng.choice((0.5, 1, 1, 1, 1, 2))
            out_bytes = min(max(int(nbytes * scale), 8 * MIB), 256 * MIB)
            copy_seconds = max(nbytes, out_bytes) / LINK
            flops = self.rng.choice((0.1, 0.3, 0.6, 1.0, 2.0)) * copy_seconds * FLOPS
            saved = (inputs[0], self.argument(MIB))
            out = self.run("dot", saved, out_bytes, flops=flops)
        elif kind == "tanh":
            out = self.run("tanh", inputs, nbytes)
            saved = (self.run("slope", [out], nbytes),)
        elif kind == "norm":
            mean = self.run("mean", inputs, max(4, nbytes // 1024))
            centred = self.run("sub", [*inputs, mean], nbytes)
            out = self.run("scale", [centred, mean], nbytes)
            saved = (centred, mean)
        elif kind == "mul":
            out = self.run("mul", inputs, nbytes)
            saved = inputs
        elif kind == "pool":
            out = self.run("pool", inputs, max(4 * MIB, nbytes // 4))
            saved = (*inputs, out)
        else:  # add, reshape, opaque
            out = self.run(kind, inputs, nbytes)
        self.tape.append((kind, inputs, out, saved, flops))
        return out

    def differentiate(self, loss: int, end: int, cotangent: int) -> list[int]:
        """Add the backward pass of a loss that sums the value `end`."""
        del loss
        of: dict[int, list[int]] = {}
        first = self.run("broadcast", [cotangent], self.nbytes(end), is_backward=True)
        of[end] = [first]
        gradients = []
        for kind, inputs, out, saved, flops in reversed(self.tape):
            if out not in of:
                continue
            g = self._sum(of.pop(out))
            back = {"flops": flops, "is_backward": True}
            sizes = [self.nbytes(v) for v in inputs]
            if kind == "dot":
                x, w = saved
                gradients.append(self.run("dot", [x, g], MIB, **back))
                if x not in self.arguments:
                    of.setdefault(x, []).append(
                        self.run("dot", [g, w], sizes[0], **back)
                    )
                continue
            if kind == "tanh":
                found = [self.run("mul", [g, saved[0]], sizes[0], is_backward=True)]
            elif kind == "norm":
                centred, mean = saved
                part = self.run(
                    "sum", [g, centred], self.nbytes(mean), is_backward=True
                )
                made = [g, centred, mean, part]
                found = [self.run("affine", made, sizes[0], is_backward=True)]
            elif kind == "mul":
                a, b = saved
                found = [
                    self.run("mul", [g, b], sizes[0], is_backward=True),
                    self.run("mul", [g, a], sizes[1], is_backward=True),
                ]
            elif kind == "pool":
                found = [self.run("unpool", [g, *saved], sizes[0], is_backward=True)]
            elif kind == "reshape":
                found = [self.run("reshape", [g], sizes[0], is_backward=True)]
            else:  # add, opaque: the cotangent passes through
                found = [g] * len(inputs)
            for v, made_of in zip(inputs, found, strict=True):
                if v not in self.arguments:
                    of.setdefault(v, []).append(made_of)
        return gradients

    def _sum(self, parts: list[int]) -> int:
        total = parts[0]
        for part in parts[1:]:
            total = self.run("add", [total, part], self.nbytes(part), is_backward=True)
        return total


def random_graph(rng: random.Random, layers: int) -> Graph:
    """A network of so many random layers, with its backward pass."""
    network = Network(rng)
    size = MIB * rng.choice((32, 64, 64, 128))
    current = network.layer("dot", (network.argument(size),))
    made = [current]
    for _ in range(layers):
        (kind,) = rng.choices(KINDS, WEIGHTS)
        inputs = (current,)
        if kind in ("add", "mul"):
            like = [
                v
                for v in made
                if v != current and network.nbytes(v) == network.nbytes(current)
            ]
            if not like:
                kind = "dot"
            else:
                inputs = (current, rng.choice(like))
        if rng.random() < 0.12:  # a branch from somewhere earlier, joined later
            source = rng.choice(made)
            made.append(network.layer("dot", (source,)))
        current = network.layer(kind, inputs)
        made.append(current)
    loss = network.run("sum", [current], 4)
    cotangent = network.value(4)
    gradients = network.differentiate(loss, current, cotangent)
    return Graph(
        values=tuple(network.values),
        equations=tuple(network.equations),
        arguments=tuple(network.arguments),
        outputs=(loss,),
        cotangents=(cotangent,),
        gradients=tuple(gradients),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A program, a GPU, and what can be decided on.

    Attributes:
        seed: what it was drawn from.
        graph: the program.
        target: the GPU.
        arranger: lays out actions.
        candidates: what is decided on.
        swappable: candidates of the backward pass that can lie idle.
        kept_bytes: device memory if everything is kept.
    """

    seed: int
    graph: Graph
    target: Target
    arranger: Arranger
    candidates: Candidates
    swappable: tuple[int, ...]
    kept_bytes: int

    @property
    def count(self) -> int:
        """How many values are decided on."""
        return len(self.candidates.forward) + len(self.swappable)

    def search(self) -> Search:
        """A search that knows nothing yet."""
        return search_of(self.graph, self.target)

    def limit(self, share: float) -> int:
        """A share of what the program needs if everything is kept."""
        return int(share * self.kept_bytes)


def random_case(seed: int, layers: int) -> Case:
    """A random program on a random GPU."""
    rng = random.Random(seed)
    target = dataclasses.replace(built_in_target("h100"), rates=draw_rates(rng))
    graph = random_graph(rng, layers)
    search = search_of(graph, target)
    order = search.kept.order
    return Case(
        seed=seed,
        graph=graph,
        target=target,
        arranger=search.arranger,
        candidates=search.candidates,
        swappable=tuple(v for v in search.candidates.backward if order.gaps(v)),
        kept_bytes=search.kept.timeline.device_bytes,
    )


def find(search: Search, limit_bytes: int) -> Found:
    """Search for the best draft below a limit of device memory."""
    return search.find(Limits(limit_bytes))
