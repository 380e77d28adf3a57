"""What both sides of the benchmark do: the same prompts, the same weights, the same limits.

In: a size of the ladder. Out: prompts as token ids, and a checkpoint that our loader and transformers read. Size xs has
the shipped base policy's weights, so completions end where a policy ends them; the other sizes have random
weights, and mostly run to the limit.
"""

from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "scaling" / "shipped" / "pretrain" / "modular_sum-xs-14a70b4333"  # quickstart's base policy
VOCABULARY, LIMIT = 66, 24  # words of modular_sum at modulus 59; most tokens of a completion
BOS, EOS, PAD, ASK = 1, 2, 0, 3
NUM_PROBLEMS, NUM_QUICK = 512, 32
SIZES = ("xs", "s", "m")


def work_rows(work: str, size: str, counts: str) -> tuple[list[list[int]], list[int], int]:
    """Prompts, the most new tokens of each, and how many completions each gets."""
    copies = {"step_values": 8, "sampling_16": 16}.get(work, 1)
    if work == "step_values":
        rows, limits = prefixes()
    else:
        rows = prompts(count=1024) if work == "greedy" else prompts(ragged=work == "sampling_1")
        limits = [LIMIT] * len(rows)
    count = num_rows(work, size, counts, len(rows))
    return rows[:count], limits[:count], copies


def num_rows(work: str, size: str, counts: str, total: int) -> int:
    """How many of a work's rows are done: a quarter where 4.7M parameters would take half an hour."""
    if counts == "quick":
        return NUM_QUICK
    return total // 4 if size == "m" and work in ("sampling_16", "step_values") else total


def prompts(seed: int = 0, count: int = NUM_PROBLEMS, ragged: bool = False) -> list[list[int]]:
    """BOS, operands, question mark. Ragged: 3 to 8 operands instead of 4."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 9, count) if ragged else np.full(count, 4)
    return [[BOS, *rng.choice(np.arange(7, VOCABULARY), length, replace=False).tolist(), ASK] for length in lengths]


def prefixes(seed: int = 0, count: int = NUM_PROBLEMS) -> tuple[list[list[int]], list[int]]:
    """Three prefixes of a written solution for each prompt, and how many tokens are left for each."""
    rng = np.random.default_rng(seed)
    found, room = [], []
    for prompt in prompts(seed, count):
        written = rng.integers(7, VOCABULARY, 18).tolist()
        for end in (7, 13, 18):  # where the three steps of a solution over four operands end
            found.append(prompt + written[:end])
            room.append(LIMIT - end)
    return found, room


def checkpoint(size: str, folder: Path) -> Path:
    """A folder with policy.json and policy.safetensors for us, config.json and model.safetensors for transformers."""
    target = folder / size
    if (target / "config.json").exists():
        return target
    import jax  # the peer's side only reads what is there

    from scaling.model.policy import Policy, load_policy, save_policy
    from scaling.model.sizes import model_config
    from scaling.model.transformer import architecture
    from scaling.pretrained.hf import save_checkpoint

    if size == "xs":
        policy = load_policy(BASE)
    else:
        config = model_config(size, VOCABULARY)
        policy = Policy(architecture(config).init(jax.random.key(0)), config)
    target.mkdir(parents=True, exist_ok=True)
    save_policy(policy, target)
    save_checkpoint(policy, target)
    return target
