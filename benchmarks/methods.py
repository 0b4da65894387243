"""The ways to save memory that are compared: jaxswap, JAX's own, published systems.

A method turns a program into a loss to differentiate. Those that plan are given a
budget. JAX's policies see matrix products; a convolution is none, so where those are
the heavy operations the policies go by the names of their results.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

import jaxswap
from benchmarks.programs import Args, Loss, Policy, Program, find_program
from benchmarks.resnet import CONVOLUTION
from jaxswap import policies
from jaxswap.medical.networks.unet import PAPER

MEMORIES = {"offload_src": "device", "offload_dst": "pinned_host"}
UNSCHEDULED = {"xla_gpu_enable_latency_hiding_scheduler": False}


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to save memory.

    Attributes:
        build: Program and its name -> loss and arguments; of JAX's own methods.
        policy: What decides, of those whose plan jaxswap carries out; `None`: its
            planner.
        is_planned: Whether jaxswap plans it.
        needs_budget: Whether it is planned for a budget.
        options: XLA's options that win over those that the program needs.
    """

    build: Callable[[Program, str], tuple[Loss, Args]]
    policy: Any = None
    is_planned: bool = False
    needs_budget: bool = False
    options: Mapping[str, bool] = dataclasses.field(default_factory=dict)


def plain(program: Program, workload: str) -> tuple[Loss, Args]:
    """The program as it is."""
    del workload
    return program()


def _each_block(policy_of: Callable[[str], Policy]) -> Callable[..., tuple[Loss, Args]]:
    """`jax.checkpoint` around each block of the network."""
    return lambda program, workload: program(policy=policy_of(workload))


def _whole(policy_of: Callable[[str], Policy]) -> Callable[..., tuple[Loss, Args]]:
    """`jax.checkpoint` around the whole loss."""

    def build(program: Program, workload: str) -> tuple[Loss, Args]:
        loss, args = program()
        return jax.checkpoint(loss, policy=policy_of(workload)), args

    return build


def has_convolutions(workload: str) -> bool:
    """Whether convolutions are the program's heavy operations."""
    return workload.startswith(("unet3d", "resnet"))


def save_nothing(workload: str) -> Policy:
    """Compute everything again."""
    del workload
    return jax.checkpoint_policies.nothing_saveable


def save_heavy(workload: str) -> Policy:
    """Keep the results of heavy operations."""
    if has_convolutions(workload):
        names = [CONVOLUTION, *PAPER.convolution_names]
        return jax.checkpoint_policies.save_only_these_names(*names)
    return jax.checkpoint_policies.dots_with_no_batch_dims_saveable


def offload_heavy(workload: str) -> Policy:
    """Swap the results of heavy operations."""
    if has_convolutions(workload):
        names = [CONVOLUTION, *PAPER.convolution_names]
        return _lists(save=[], offload=names)
    return jax.checkpoint_policies.offload_dot_with_no_batch_dims(*MEMORIES.values())


def _lists(save: list[str], offload: list[str]) -> Policy:
    return jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=save, names_which_can_be_offloaded=offload, **MEMORIES
    )


def per_tensor(workload: str) -> Policy:
    """A fate for each named value, chosen by hand as MaxText's users do.

    Transformer: a layer's input and the MLP's wide product leave, the attention's
    output stays, the rest is computed again. U-Net: the encoder's two finest levels
    leave, the decoder's finest is computed again, the rest stays.

    Raises:
        ValueError: If the program's values have no names to choose from.
    """
    if workload.startswith("transformer"):
        return _lists(save=["out_proj"], offload=["decoder_layer_input", "mlpwi"])
    if not workload.startswith("unet3d"):
        raise ValueError(f"{workload} does not name its values one by one.")
    finest = ("encoder0/", "encoder1/")
    names = PAPER.convolution_names
    offload = [name for name in names if name.startswith(finest)]
    rest = [name for name in names if name not in offload]
    return _lists([n for n in rest if not n.startswith("decoder0/")], offload)


def _named(program: Program, workload: str) -> tuple[Loss, Args]:
    """`per_tensor` around each layer of a transformer, around the whole of a U-Net."""
    around = _each_block if workload.startswith("transformer") else _whole
    return around(per_tensor)(program, workload)


def _planned(policy: Any = None, *, needs_budget: bool = False) -> Method:
    return Method(plain, policy, is_planned=True, needs_budget=needs_budget)


def _unscheduled(method: Method) -> Method:
    return dataclasses.replace(method, options=UNSCHEDULED)


_JAX_OWN = {
    "plain": Method(plain),
    "textbook layers": Method(plain),
    "checkpoint whole": Method(_whole(save_nothing)),
    "checkpoint each block": Method(_each_block(save_nothing)),
    "checkpoint each block, heavy saved": Method(_each_block(save_heavy)),
    "JAX offload each block": Method(_each_block(offload_heavy)),
    "JAX offload whole": Method(_whole(offload_heavy)),
}
METHODS: dict[str, Method] = {
    **_JAX_OWN,
    "JAX offload each block, scheduler off": _unscheduled(
        _JAX_OWN["JAX offload each block"]
    ),
    "JAX offload whole, scheduler off": _unscheduled(_JAX_OWN["JAX offload whole"]),
    "per-tensor list": Method(_named),
    "Imai2018": _planned(policies.Imai2018()),
    "LMS": _planned(jaxswap.LMS()),
    "SwapEverything": _planned(policies.SwapEverything()),
    "SaveOnCpu": _planned(policies.SaveOnCpu()),
    "TFLMSv2": _planned(policies.TFLMSv2(), needs_budget=True),
    "SwapHeavy": _planned(policies.SwapHeavy()),
    "jaxswap": _planned(needs_budget=True),
}
"""All of them, by name; all compute the same loss and gradient.

"LMS" has its dials' defaults, "TFLMSv2" is tuned for the budget by the published
search, "SwapHeavy" knows no budget and no times, "jaxswap" plans.
"""
EARLIER = {"jaxswap.offload": "SwapHeavy"}
"""What rows that were measured before call a method, and its name now."""


def methods_of(workload: str) -> list[str]:
    """Names of the methods that a program can be run with."""
    left_out = set()
    if not workload.startswith("unet3d"):
        left_out.add("textbook layers")
    if workload.startswith(("mlp", "resnet")):
        left_out.add("per-tensor list")
    return [name for name in METHODS if name not in left_out]


def loss_of(
    method: str, workload: str, *, is_tiny: bool = False
) -> tuple[Loss, Args, Method]:
    """Build a method's loss; of one that plans, the loss that is to be planned.

    Raises:
        ValueError: If method or workload is unknown, or the two do not go together.
    """
    if method not in METHODS:
        raise ValueError(f"the method is {method!r}; choose of {', '.join(METHODS)}.")
    is_textbook = method == "textbook layers"
    program = find_program(workload, is_tiny=is_tiny, is_textbook=is_textbook)
    found = METHODS[method]
    loss, args = found.build(program, workload)
    return loss, args, found
