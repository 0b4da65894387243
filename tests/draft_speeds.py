"""How many times faster is a sketch in C than a draft in Python?

python tests/draft_speeds.py                       all programs
python tests/draft_speeds.py --program mlp

For each program: processor milliseconds of one draft with random actions, laid out and
simulated by the readable code and by the C code on the same actions, and the ratio.
"""

import argparse
import pathlib
import random
import sys
import time

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
ROUNDS = 20


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
    start = time.process_time()
    for actions in chosen:
        arranger.arrange(actions, limit)
    draft_seconds = (time.process_time() - start) / ACTIONS
    start = time.process_time()
    for _ in range(ROUNDS):
        for actions in numbers:
            sketcher.sketch(actions, limit)
    sketch_seconds = (time.process_time() - start) / ACTIONS / ROUNDS
    return len(graph.equations), draft_seconds, sketch_seconds


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
