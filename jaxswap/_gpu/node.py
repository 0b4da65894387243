"""A machine with several GPUs: what each GPU gets of what they share.

GPUs of one node swap into the same host memory. Some of them share a link to it (a PCIe
switch, a CPU socket's memory). From a `Node` and a number of busy GPUs this file makes
the `Target` that each of them is. No JAX here.

Sources. [a100] and [h100]: NVIDIA's user guides of DGX A100 and DGX H100: GPUs, CPUs,
memory, network adapters; the A100's GPUs are in pairs behind four PCIe switches, the
H100's have sixteen lanes of PCIe 5.0 each. [epyc] and [xeon]: eight channels of
DDR4-3200 and of DDR5-4800 a socket. [gh200]: NVIDIA's Grace Hopper architecture white
paper. [ac922]: IBM Redpaper 5472: with four GPUs, three NVLink bricks of 25e9 bytes/s
each way between each GPU and its CPU, 170e9 bytes/s of memory a socket. [v100]:
NVIDIA's data sheet, and XLA's target configuration; its matrix units take fp16, for
which the rate of bf16 stands here, and no tf32.
"""

import dataclasses
from dataclasses import dataclass

from jaxswap._gpu.target import Target, built_in_target, rates_of, target_key

_MEMORY_SHARE = 0.8
"""Share of a socket's memory bandwidth that copies can get: an estimate."""

_HOST_SHARE = 0.9
"""Share of a node's memory that swapped values may take. The rest is for data and the
operating system. An estimate."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine with several GPUs, as numbers.

    Attributes:
        name: Short name, as `jaxswap.plan(target=...)` takes it.
        gpu: The numbers of one of its GPUs.
        gpu_count: How many GPUs it has.
        gpus_per_link: How many GPUs share one link to host memory.
        link_bytes_per_second: Peak of such a link, each way.
        socket_count: CPU sockets. The GPUs are spread evenly over them.
        socket_memory_bytes_per_second: Peak of one socket's memory, both ways together.
        host_memory_bytes: Memory of all sockets.
        gpu_to_gpu_bytes_per_second: Peak of a GPU's links to the others, each way.
        network_bytes_per_second: Peak from node to node, each way.

    Raises:
        ValueError: If a number is not positive, or if `gpus_per_link` or
            `socket_count` does not divide `gpu_count`.

    Example:
        >>> import dataclasses, jaxswap
        >>> dgx = jaxswap.find_node("dgx-h100")
        >>> half = dataclasses.replace(dgx, name="mine", gpu_count=4, socket_count=1)
    """

    name: str
    gpu: Target
    gpu_count: int
    gpus_per_link: int
    link_bytes_per_second: float
    socket_count: int
    socket_memory_bytes_per_second: float
    host_memory_bytes: int
    gpu_to_gpu_bytes_per_second: float
    network_bytes_per_second: float

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("name", "gpu") and not value > 0:
                raise ValueError(
                    f"`{field.name}` of the node {self.name!r} is {value!r}: give a "
                    "positive number."
                )
        for name in ("gpus_per_link", "socket_count"):
            if self.gpu_count % getattr(self, name):
                raise ValueError(
                    f"the node {self.name!r} has {self.gpu_count} GPUs, which "
                    f"`{name}`={getattr(self, name)} does not divide."
                )

    def busy(self, gpu_count: int) -> int:
        """Return how many GPUs of each node are busy if nodes are filled one by one."""
        return min(gpu_count, self.gpu_count)

    def gpu_among(self, busy: int) -> Target:
        """Return the GPU as it is while several GPUs of the node are busy.

        Args:
            busy: How many are busy, spread as evenly as possible over links and
                sockets.

        Returns:
            The GPU with its share of the link and of the socket's memory bandwidth.

        Raises:
            ValueError: If the node has fewer GPUs.
        """
        if not 1 <= busy <= self.gpu_count:
            raise ValueError(
                f"`busy` is {busy}; the node {self.name!r} has {self.gpu_count} GPUs."
            )
        links = self.gpu_count // self.gpus_per_link
        on_link, on_socket = -(-busy // links), -(-busy // self.socket_count)
        memory = _MEMORY_SHARE * self.socket_memory_bytes_per_second / on_socket
        rates = rates_of(self.gpu)
        alone = self.gpu.host_link_bytes_per_second
        linked = min(1.0, self.link_bytes_per_second / on_link / alone)
        out = min(rates.swap_out_bytes_per_second * linked, memory)
        back = min(rates.swap_in_bytes_per_second * linked, memory)
        both = memory / (out + back)
        rates = dataclasses.replace(
            rates,
            swap_out_bytes_per_second=out,
            swap_in_bytes_per_second=back,
            swap_out_both_ways_share=min(rates.swap_out_both_ways_share, both),
            swap_in_both_ways_share=min(rates.swap_in_both_ways_share, both),
            source=f"{rates.source}; {busy} of {self.gpu_count} in {self.name} busy",
        )
        return dataclasses.replace(self.gpu, name=f"{self.name}:{busy}", rates=rates)

    def host_bytes_each(self, busy: int) -> int:
        """Return the host memory that each of several busy GPUs may swap into."""
        return int(_HOST_SHARE * self.host_memory_bytes) // busy


def find_node(node: str | Node) -> Node:
    """Look up a machine by name.

    Args:
        node: A name from `node_names()`, in any case and with or without separators, or
            a `Node`, which is returned unchanged.

    Returns:
        The machine's numbers.

    Raises:
        ValueError: If no machine has that name. The text lists the known names.

    Example:
        >>> find_node("DGX H100").gpu_count
        8
    """
    if isinstance(node, Node):
        return node
    found = _BY_KEY.get(target_key(node)) if isinstance(node, str) else None
    if found is None:
        raise ValueError(
            f"`node` is {node!r}, which is not a known machine; choose one of "
            f"{', '.join(node_names())}, or describe yours with `jaxswap.Node`."
        )
    return found


def node_names() -> tuple[str, ...]:
    """List the names that `find_node` knows, in alphabetical order."""
    return tuple(sorted(node.name for node in _NODES))


def is_node(target: object) -> bool:
    """Whether a target is a machine, or the name of one."""
    named = isinstance(target, str) and target_key(target) in _BY_KEY
    return named or isinstance(target, Node)


_V100 = Target(
    name="v100-16-nvlink",
    device_name="Tesla V100-SXM2-16GB",
    compute_capability=(7, 0),
    memory_bytes=16935682048,  # [v100], and the rest
    memory_bytes_per_second=898.048e9,
    host_link_bytes_per_second=75e9,  # [ac922]
    l2_cache_bytes=6291456,
    core_count=80,
    clock_hertz=1.53e9,
    fpus_per_core=64,
    threads_per_core=2048,
    shared_memory_per_core_bytes=98304,
    shared_memory_per_block_bytes=98304,
    bf16_flops_per_second=125e12,
    tf32_flops_per_second=15.7e12,
    fp32_flops_per_second=15.7e12,
)

_NODES = (
    Node(
        name="dgx-a100",
        gpu=built_in_target("a100-80"),
        gpu_count=8,
        gpus_per_link=2,
        link_bytes_per_second=31.5e9,
        socket_count=2,
        socket_memory_bytes_per_second=204.8e9,  # [epyc]
        host_memory_bytes=2 * 10**12,
        gpu_to_gpu_bytes_per_second=300e9,
        network_bytes_per_second=8 * 25e9,
    ),
    Node(
        name="dgx-h100",
        gpu=built_in_target("h100"),
        gpu_count=8,
        gpus_per_link=1,
        link_bytes_per_second=63e9,
        socket_count=2,
        socket_memory_bytes_per_second=307.2e9,  # [xeon]
        host_memory_bytes=2 * 10**12,
        gpu_to_gpu_bytes_per_second=450e9,
        network_bytes_per_second=8 * 50e9,
    ),
    Node(
        name="gh200-node",
        gpu=built_in_target("gh200"),
        gpu_count=1,
        gpus_per_link=1,
        link_bytes_per_second=450e9,
        socket_count=1,
        socket_memory_bytes_per_second=512e9,  # [gh200]
        host_memory_bytes=480 * 10**9,
        gpu_to_gpu_bytes_per_second=450e9,
        network_bytes_per_second=50e9,
    ),
    Node(
        name="ac922",
        gpu=_V100,
        gpu_count=4,
        gpus_per_link=1,
        link_bytes_per_second=75e9,
        socket_count=2,
        socket_memory_bytes_per_second=170e9,
        host_memory_bytes=512 * 10**9,
        gpu_to_gpu_bytes_per_second=75e9,
        network_bytes_per_second=2 * 12.5e9,
    ),
)

_BY_KEY = {target_key(node.name): node for node in _NODES}
