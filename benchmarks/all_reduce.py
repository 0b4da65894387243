"""How long GPUs take to add up their gradients: a ring, as numbers.

Every GPU sends and receives twice its share of all bytes, `2 (n - 1) / n`, at the rate
of the slowest link of the ring, and each of the `2 (n - 1)` steps has a latency. Within
a node the link is that between GPUs; between nodes it is all network adapters of a node
together, as NCCL makes one ring through each.

Sources. [busbw] NVIDIA/nccl-tests issue 212, where NCCL's maintainer gives 370 of 450
GB/s for a ring over the NVLinks of an H100; the same share stands for networks here, an
estimate. [tuning] `src/graph/tuning.cc` of NVIDIA/nccl 2.19, the "Simple" protocol of
rings: latencies of NVLink, network and start. For many nodes and few bytes NCCL has
trees, which are faster: the ring is the cautious choice.
"""

import jaxswap

_LINK_SHARE = 370 / 450  # [busbw]
_START_SECONDS = 8.4e-6  # [tuning], and the next two
_STEP_SECONDS = 3.4e-6
_NETWORK_STEP_SECONDS = 14e-6


def all_reduce_seconds(nbytes: int, gpu_count: int, node: jaxswap.Node) -> float:
    """Estimate the time of one all-reduce over GPUs that fill one node after another.

    Args:
        nbytes: Of the sum, on each GPU.
        gpu_count: GPUs that take part.
        node: The machine that they are in.

    Returns:
        Seconds; 0 for one GPU.
    """
    if gpu_count == 1:
        return 0.0
    node_count = -(-gpu_count // node.gpu_count)
    links = [node.gpu_to_gpu_bytes_per_second] if node.gpu_count > 1 else []
    links += [node.network_bytes_per_second] if node_count > 1 else []
    steps = 2 * (gpu_count - 1)
    network_steps = min(steps, 2 * node_count) if node_count > 1 else 0
    latency = network_steps * _NETWORK_STEP_SECONDS
    latency += (steps - network_steps) * _STEP_SECONDS
    sent = steps / gpu_count * nbytes
    return _START_SECONDS + latency + sent / (_LINK_SHARE * min(links))
