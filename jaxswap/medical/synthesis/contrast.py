"""How bright tissue is in magnetic resonance images: the signal equations.

From relaxation times and proton density of tissues, this file computes how bright each
is in the four images of a BraTS case. T1 images are spin echoes before and after a
contrast agent. The agent shortens T1 where the barrier between blood and brain is
broken. T2 is a spin echo. FLAIR inverts first and waits until fluid gives no signal.

Sources. Grey and white matter: the BrainWeb phantom (1.5 tesla; Kwan et al. 1999). The
effect of the agent: quantitative T1 of 33 glioblastomas (838 +- 210 ms shorter in
enhancing tumour, 123 +- 74 in oedema, 32 +- 35 in normal brain; University of
Frankfurt, publication 57191). The times of lesions are chosen to give the usual
contrast: T2 and FLAIR bright, T1 dark, necrosis nearest to fluid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np


class Tissue(IntEnum):
    """What a voxel may consist of. In maps of lesions, 0 stands for no lesion."""

    FLUID = 1
    GREY = 2
    WHITE = 3
    NECROSIS = 4
    OEDEMA = 5
    ENHANCING = 6
    SOLID = 7
    """Tumour that takes up no contrast agent."""


@dataclass(frozen=True)
class Relaxation:
    """How a tissue responds to a sequence.

    Attributes:
        t1_ms: Longitudinal relaxation time.
        t2_ms: Transverse relaxation time.
        proton_density: Proton density relative to water.
        agent_shortening_ms: How much the contrast agent shortens T1.
    """

    t1_ms: float
    t2_ms: float
    proton_density: float
    agent_shortening_ms: float = 32.0


TISSUES: dict[Tissue, Relaxation] = {
    Tissue.FLUID: Relaxation(4000, 500, 1.0, 0.0),
    Tissue.GREY: Relaxation(833, 83, 0.86),
    Tissue.WHITE: Relaxation(500, 70, 0.77),
    Tissue.NECROSIS: Relaxation(1900, 190, 0.97, 100.0),
    Tissue.OEDEMA: Relaxation(1100, 140, 0.90, 123.0),
    Tissue.ENHANCING: Relaxation(1250, 115, 0.90, 838.0),
    Tissue.SOLID: Relaxation(1300, 130, 0.92, 60.0),
}
"""Typical values."""


@dataclass(frozen=True)
class Sequence:
    """How an image is acquired.

    Attributes:
        repetition_ms: Repetition time TR.
        echo_ms: Echo time TE.
        inversion_ms: Inversion time TI. None for a plain spin echo.
        has_agent: Whether contrast agent was given before.
    """

    repetition_ms: float
    echo_ms: float
    inversion_ms: float | None = None
    has_agent: bool = False


SEQUENCES: dict[str, Sequence] = {
    "t1n": Sequence(600, 10),
    "t1c": Sequence(600, 10, has_agent=True),
    "t2w": Sequence(4500, 100),
    "t2f": Sequence(9000, 120, 2500),
}
"""The images of a BraTS case, by the names of 2023 and later."""

_JITTER = 0.05  # Relative standard deviation between people.
_MOST_JITTER = 0.15
_AGENT_JITTER = 0.2
_SHORTEST_T1_MS = 200.0


def signal(relaxation: Relaxation, sequence: Sequence) -> float:
    """Compute how bright a tissue is.

    Args:
        relaxation: The tissue.
        sequence: How the image is acquired.

    Returns:
        The magnitude of the signal, relative to water without relaxation.

    Example:
        >>> bright = signal(TISSUES[Tissue.OEDEMA], SEQUENCES["t2f"])
        >>> bright > 1.5 * signal(TISSUES[Tissue.WHITE], SEQUENCES["t2f"])
        True
    """
    t1 = relaxation.t1_ms
    if sequence.has_agent:
        t1 = max(t1 - relaxation.agent_shortening_ms, _SHORTEST_T1_MS)
    recovered = 1 - np.exp(-sequence.repetition_ms / t1)
    if sequence.inversion_ms is not None:
        # Inverted signal that has recovered until TI.
        recovered = 1 + np.exp(-sequence.repetition_ms / t1)
        recovered = abs(recovered - 2 * np.exp(-sequence.inversion_ms / t1))
    decayed = np.exp(-sequence.echo_ms / relaxation.t2_ms)
    return float(relaxation.proton_density * recovered * decayed)


def draw_tissues(random: np.random.Generator) -> dict[Tissue, Relaxation]:
    """Draw the tissues of one person: each value varies by about 5 %.

    Args:
        random: Source of randomness.

    Returns:
        Relaxation of each tissue.
    """

    def factor(deviation: float) -> float:
        limit = deviation * _MOST_JITTER / _JITTER
        return 1 + float(np.clip(deviation * random.standard_normal(), -limit, limit))

    return {
        tissue: replace(
            typical,
            t1_ms=typical.t1_ms * factor(_JITTER),
            t2_ms=typical.t2_ms * factor(_JITTER),
            proton_density=typical.proton_density * factor(_JITTER / 2),
            agent_shortening_ms=typical.agent_shortening_ms * factor(_AGENT_JITTER),
        )
        for tissue, typical in TISSUES.items()
    }


def render(
    shares: Mapping[Tissue, np.ndarray],
    tissues: Mapping[Tissue, Relaxation],
    sequence: Sequence,
) -> np.ndarray:
    """Mix the signals of the tissues in each voxel.

    Args:
        shares: Share of each tissue in each voxel, float32, all of the same shape.
            Their sum is 1 inside the brain.
        tissues: Relaxation of each tissue.
        sequence: How the image is acquired.

    Returns:
        The image, float32, of that shape.
    """
    image = np.zeros_like(next(iter(shares.values())))
    for tissue, share in shares.items():
        image += np.float32(signal(tissues[tissue], sequence)) * share
    return image
