"""How many times faster is a sketch in C than a draft in Python?

python tests/draft_speeds.py                       all programs
python tests/draft_speeds.py --program mlp

For each program: processor milliseconds of one draft with random actions, laid out and
simulated by the readable code and by the C code on the same actions, and the ratio. Of
some rounds, the fastest counts: others had to share the machine.
"""

import argparse
import pathlib
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from benchmarks.programs import PROGRAMS
from jaxswap._gpu.target import built_in_target, rates_of
from jaxswap._graph.graph import Action
from jaxswap._run.loss import loss_source
from jaxswap._search.candidates import Candidates, find_candidates
from jaxswap._search.ways import keep_all
from jaxswap._simulate.draft import Arranger
from jaxswap._sketch.sketch import Sketcher, codes

ACTIONS = 8
DRAFT_ROUNDS, SKETCH_ROUNDS = 2, 40


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="draft_speeds", description=__doc__)
    parser.add_argument("--program", action="append", choices=list(PROGRAMS))
    options = parser.parse_args()
    lines = ["| program | equations | draft ms | sketch ms | ratio |", "|---" * 5 + "|"]
    sys.stdout.write("\n".join([*lines, ""]))
    for name in options.program or PROGRAMS:
        equations, draft, sketch = measure(name)
        times = f"{draft * 1e3:.1f} | {sketch * 1e3:.2f} | {draft / sketch:.0f}"
        sys.stdout.write(f"| {name} | {equations} | {times} |\n")


def measure(name: str) -> tuple[int, float, float]:
    """Return the program's equations, and seconds of a draft and of a sketch."""
    loss, args = PROGRAMS[name]()
    graph = loss_source(loss, args, {}, 0, False).traced(keep_all).graph
    arranger = Arranger(graph, rates_of(built_in_target("h100")))
    fusion = arranger.simulator.fusion
    candidates = find_candidates(graph, fusion, arranger.large_bytes)
    limit = arranger.all_kept.timeline.device_bytes // 2
    sketcher, rng = Sketcher(arranger), random.Random(0)
    chosen = [_random_actions(candidates, rng) for _ in range(ACTIONS)]
    numbers = [codes(actions) for actions in chosen]
    arranger.arrange(chosen[0], limit)  # What is done once does not count.
    sketcher.sketch(numbers[0], limit)
    draft = _fastest(lambda a: arranger.arrange(a, limit), chosen, DRAFT_ROUNDS)
    sketch = _fastest(lambda a: sketcher.sketch(a, limit), numbers, SKETCH_ROUNDS)
    return len(graph.equations), draft, sketch


def _fastest(
    lay_out: Callable[[Any], object], actions: Sequence[Any], rounds: int
) -> float:
    """Return the processor seconds of one draft in the fastest round."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        for each in actions:
            lay_out(each)
        found.append((time.process_time() - start) / len(actions))
    return min(found)


def _random_actions(candidates: Candidates, rng: random.Random) -> list[Action]:
    """Choose an action for each candidate."""
    actions = list(candidates.fixed)
    for v in candidates.forward:
        is_pure = v in candidates.recomputable
        actions[v] = rng.choice(list(Action)[: 2 + is_pure])
    for v in candidates.backward:
        actions[v] = rng.choice([Action.KEEP, Action.OFFLOAD])
    return actions


if __name__ == "__main__":
    main()
