"""Star graphs: find the path from the centre of a star to the end of one arm (Bachmann and Nagarajan 2024).

In: a `StarGraph` config. Out: problems, teacher solutions, web text for the base policy, and an exact verifier of
every step. With two arms of three nodes, the centre included, a problem and its only solution are

    4 7 | 2 9 | 4 2 | 7 1 / 4 9 =      4 2 9

The prompt lists the edges outward and shuffled, then start and goal; each node of the completion is a step. After the
first choice the path is forced, and the choice is visible only from the goal backwards: the pitfall of next-token
prediction in "The pitfalls of next-token prediction" (arXiv 2403.06963).
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from data.records import Check, Problem, StepCheck
from scaling.config.problems import StarGraph


def vocabulary(config: StarGraph) -> tuple[str, ...]:
    return (*map(str, range(config.num_nodes)), "|", "/", "=")


def step_separator(config: StarGraph) -> None:
    """No separator: every word of a completion is a step."""
    return None


def max_prompt_words(config: StarGraph) -> int:
    """Two words an edge with `|` between edges, then `/ start goal =`."""
    return 3 * _num_edges(config) + 3


def max_completion_words(config: StarGraph) -> int:
    return config.path_length


def max_steps(config: StarGraph) -> int:
    """Every node of the path is a step."""
    return config.path_length


def num_distinct(config: StarGraph) -> int:
    """Different prompts: labelled stars, times orders of the edges, times goals."""
    stars = math.perm(config.num_nodes, 1 + _num_edges(config)) // math.factorial(config.degree)
    return stars * math.factorial(_num_edges(config)) * config.degree


def draw(config: StarGraph, rng: np.random.Generator) -> Problem:
    """A star with random labels, edges shuffled, and the end of one arm as the goal."""
    prompt, paths = _star(config, rng)
    return Problem(prompt, " ".join(paths[0]))


def log_probability(config: StarGraph, problem: Problem) -> float:
    """Natural logarithm of the chance that `draw` gives this problem: the same for all."""
    return -math.log(num_distinct(config))


def solve(config: StarGraph, problem: Problem, rng: np.random.Generator) -> str:
    """The path to the goal; a flawed one follows a wrong arm to its end, and does not verify."""
    if rng.random() >= config.flaw_rate:
        return problem.answer
    edges, (start, second, *_) = _edges(problem), problem.answer.split()
    wrong = [node for node in edges[start] if node != second]
    path = [start, wrong[int(rng.integers(len(wrong)))]]
    while path[-1] in edges:
        path.extend(edges[path[-1]])
    return " ".join(path)


def web_facts(config: StarGraph, seed: int) -> None:
    """No facts: the edges are in the prompt, so nothing can be misremembered."""
    return None


def web_text(config: StarGraph, rng: np.random.Generator, facts: None) -> tuple[str, str]:
    """A prompt and a walk down an arm drawn at random: it follows edges and ignores the goal."""
    prompt, paths = _star(config, rng)
    return prompt, " ".join(paths[int(rng.integers(config.degree))])


def web_entropy(config: StarGraph, facts: None) -> float:
    """Nats of a completion of the web text given its prompt: which arm."""
    return math.log(config.degree)


def misconceptions(config: StarGraph, facts: None, check: Check) -> int:
    """0: the web text states no facts."""
    return 0


def answer(config: StarGraph, completion: str) -> str | None:
    """The path, when the completion is as many node labels as a path has; else None."""
    words, labels = completion.split(), set(map(str, range(config.num_nodes)))
    return " ".join(words) if len(words) == config.path_length and labels.issuperset(words) else None


def check(config: StarGraph, problem: Problem, completion: str) -> Check:
    """Verdict on any string: the procedure follows edges outward from the start, the facts are the path's nodes."""
    edges, path = _edges(problem), problem.answer.split()
    words = completion.split()
    steps = [
        StepCheck(
            text=word,
            procedure_ok=(word == path[0]) if index == 0 else word in edges.get(words[index - 1], ()),
            fact_ok=index < len(path) and word == path[index],
        )
        for index, word in enumerate(words)
    ]
    given = answer(config, completion)
    return Check(float(given == problem.answer), given, tuple(steps) or (StepCheck("", False, True),))


def _num_edges(config: StarGraph) -> int:
    return config.degree * (config.path_length - 1)


def _star(config: StarGraph, rng: np.random.Generator) -> tuple[str, list[list[str]]]:
    """(prompt, the path down each arm); the goal is the end of the first path. Labels are random, so any would do."""
    labels = rng.permutation(config.num_nodes)[: 1 + _num_edges(config)].tolist()
    start, length = str(labels[0]), config.path_length - 1
    arms = [labels[1 + arm * length : 1 + (arm + 1) * length] for arm in range(config.degree)]
    paths = [[start, *map(str, arm)] for arm in arms]
    edges = [f"{a} {b}" for path in paths for a, b in pairwise(path)]
    shuffled = [edges[index] for index in rng.permutation(len(edges)).tolist()]
    return f"{' | '.join(shuffled)} / {start} {paths[0][-1]} =", paths


def _edges(problem: Problem) -> Mapping[str, Sequence[str]]:
    """Node -> the nodes one edge further out, in the prompt's order."""
    edges: dict[str, list[str]] = {}
    for edge in problem.prompt.split(" / ")[0].split(" | "):
        a, b = edge.split()
        edges.setdefault(a, []).append(b)
    return edges
