"""Adaptive step values: the first pit of each negative, from a fraction of the tokens that all Q would take.

In: negatives with their step_ends, and continuations by key. Out: the counts of correct continuations, as far as the
pit needs them, and q_values where they are known.

The last Q of a negative is 0, so its first pit (Setlur et al. 2024, arXiv 2406.14532; Hwang et al. 2024, arXiv
2404.10346) is the first step after which none of M continuations is correct. To find it, the steps are scanned from the
first: the scan leaves a step at its first correct continuation, and ends at the step without one among M. Later steps
are not sampled. A continuation is keyed by (problem, sample, step, index), so the samples are those of an exhaustive
estimate, and so is the pit; Q need not fall along a negative.
`scaling.model.replay` completes them and computes no token twice.

The price of stopping: 1 correct of n, where n is where the scan stopped, does not estimate a step's Q. Its mean is
Q ln(1/Q) / (1 - Q) for M without bound, 0.69 where Q is 0.5. So q_values is null for every step but the pit, where
all M were sampled, and the last step, whose Q is the reward. The 0 of a pit equals the exhaustive estimate,
but only zeros are kept, so the mean of the known q_values does not estimate the mean Q. num_continuations and
num_correct hold what was seen; whether num_continuations is 1 is an unbiased estimate of Q, of one draw, for a step
before the pit that the scan reached. Rules and algorithms that need Q of every step (`largest_drop`, step_rft) are
rejected. The one correct continuation of a step has the distribution of any correct continuation of it, so the chosen
sides of shared-prefix pairs have the same distribution as in an exhaustive estimate.
"""

from collections.abc import Callable, Sequence

import pandas as pd

from data.continuations import Source, judged, requests
from data.sampling.sampler import Sampler
from scaling.config.sampling import StepValues
from scaling.model.replay import Replay

Continuation = tuple[int, int, int]  # row of the traces, step, index


def scan(
    num_prefixes: Sequence[int], num_rollouts: int, rewards_of: Callable[[list[Continuation]], Sequence[float]]
) -> None:
    """Request rewards of continuations, one per trace and round, until the first pit of every trace is known.

    num_prefixes: how many steps of each trace can be continued. rewards_of: called once a round; each trace requests
    the next index of its current step, or moves to the next step after a correct one.
    """
    present = {trace: (0, 0) for trace, count in enumerate(num_prefixes) if count}
    while present:
        asked = [(trace, step, index) for trace, (step, index) in present.items()]
        for (trace, step, index), reward in zip(asked, rewards_of(asked), strict=True):
            following = (step + 1, 0) if reward == 1.0 else (step, index + 1)
            if following[0] == num_prefixes[trace] or following[1] == num_rollouts:
                del present[trace]  # only the last step is left, whose Q is 0; or none of M was correct
            else:
                present[trace] = following


def continuations_to_pits(
    source: Source, values: StepValues, traces: pd.DataFrame, sampler: Sampler
) -> tuple[pd.DataFrame, Replay]:
    """The continuations that a scan requests, sorted by key, and the cost of sampling them."""
    if (traces["reward"] != 0.0).any():
        raise ValueError(
            "step_values.adaptive finds the first pits of negatives, but some traces are positive; set"
            " step_values.adaptive: false to have Q of every step."
        )
    replay = sampler.replay(values.temperature)
    rounds = [judged(source, requests(source, traces, []), [])]

    def rewards_of(asked: list[Continuation]) -> Sequence[float]:
        now = requests(source, traces, asked)
        rounds.append(judged(source, now, replay.complete(now.starts, now.keys, now.limits)))
        rewards: list[float] = rounds[-1]["reward"].tolist()
        return rewards

    scan([len(ends) - 1 for ends in traces["step_ends"]], values.rollouts_per_prefix, rewards_of)
    found = pd.concat(rounds[1:] or rounds, ignore_index=True)
    return found.sort_values(["problem", "sample", "step", "index"], ignore_index=True), replay


def with_known_values(traces: pd.DataFrame, continuations: pd.DataFrame, num_rollouts: int) -> pd.DataFrame:
    """The traces with q_values, None if unknown, num_continuations and num_correct: one entry a step each."""
    rewards = continuations.groupby(["problem", "sample", "step"])["reward"]
    seen = {key: (len(found), int(found.sum())) for key, found in rewards}
    counts = [
        [seen.get((row.problem, row.sample, step), (0, 0)) for step in range(len(row.step_ends))]
        for row in traces.itertuples(index=False)
    ]
    q_values = [[0.0 if count == (num_rollouts, 0) else None for count in steps[:-1]] for steps in counts]
    return traces.assign(
        num_continuations=[[size for size, _ in steps] for steps in counts],
        num_correct=[[correct for _, correct in steps] for steps in counts],
        q_values=[[*known, reward] for known, reward in zip(q_values, traces["reward"], strict=True)],
    )
