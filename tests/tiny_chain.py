"""Small inputs for tests of the stages: a chain of real stages on a tiny policy, and artifacts written by hand.

The real chain has 8 problems modulo 11 and a policy of the smallest size that SFT drives to about half right, so
that its rollouts have positives and negatives. The artifacts made by hand need no policy and no compilation.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd
from stage_config import whole

from algorithms import pretrain, sft
from data import rollouts, step_values, verifier
from data.records import write_jsonl
from data.rollout_tables import load_verified
from data.teacher import synthetic
from data.tokens.steps import step_ends
from data.tokens.tokenizer import EOS, Tokenizer, for_problems
from scaling.config.problems import ModularSum
from scaling.config.section import plain

SETTINGS = ModularSum(modulus=11, operands=3)
PROBLEMS = plain(SETTINGS)
TOKENIZER: Tokenizer = for_problems(SETTINGS)
OPTIMIZER = {"learning_rate": 1e-2, "epochs": 20, "batch_size": 8}
NUM_PROBLEMS, SAMPLES, ROLLOUTS_PER_PREFIX, TRACES_PER_PROBLEM = 8, 8, 2, 2

CONFIGS: Mapping[str, dict] = {
    "synthetic": {"teacher": {"keep_unverified": False}, "data_size": NUM_PROBLEMS, "seed": 0},
    "base": whole({"policy": {"size": "xxs", "base": "random"}, "pretrain": {"seed": 0}}),
    "sft": whole({"sft": OPTIMIZER, "seed": 0}),
    "rollouts": whole({"rollouts": {"samples_per_problem": SAMPLES}, "seed": 0}),
    "verification": {},
    "step_values": whole(
        {
            "step_values": {"rollouts_per_prefix": ROLLOUTS_PER_PREFIX, "best_of": 2},
            "traces": "all",
            "traces_per_problem": TRACES_PER_PROBLEM,
            "seed": 0,
        }
    ),
}
_STAGES = {
    "synthetic": (synthetic.run, {}),
    "base": (pretrain.run, {}),
    "sft": (sft.run, {"base": "base", "synthetic": "synthetic"}),
    "rollouts": (rollouts.run, {"policy": "sft", "synthetic": "synthetic"}),
    "verification": (verifier.run, {"rollouts": "rollouts", "synthetic": "synthetic"}),
    "step_values": (
        step_values.run,
        {"policy": "sft", "synthetic": "synthetic", "rollouts": "rollouts", "verification": "verification"},
    ),
}


class Chain:
    """The artifacts of a chain by name, `chain["sft"]` is a directory, and the numbers its stages returned."""

    def __init__(self, root: Path, last: str) -> None:
        self.root, self.numbers = root, {}
        for name, (run, inputs) in _STAGES.items():
            folder = root / name
            folder.mkdir()
            config = {"problems": PROBLEMS, **CONFIGS[name]}
            self.numbers[name] = run(config, {key: root / source for key, source in inputs.items()}, folder)
            if name == last:
                break

    def __getitem__(self, name: str) -> Path:
        return self.root / name

    def rerun(self, name: str, out: Path, **changes) -> dict[str, float]:
        """A stage again, into another directory, with changes to its config; its numbers."""
        out.mkdir()
        run, inputs = _STAGES[name]
        return run(whole({"problems": PROBLEMS, **CONFIGS[name], **changes}), self.inputs(**inputs), out)

    def inputs(self, **names: str) -> dict[str, Path]:
        """A stage's inputs: its name for each -> the artifact."""
        return {key: self.root / name for key, name in names.items()}


# Three problems by hand: prompt, answer, and the teacher's solution.
SYNTHETIC = (
    {"prompt": "1 2 3 ?", "answer": "6", "completion": "1 2 = 3 3 ; 3 3 = 6 ; # 6"},
    {"prompt": "4 5 6 ?", "answer": "4", "completion": "4 5 = 9 6 ; 9 6 = 4 ; # 4"},
    {"prompt": "7 8 9 ?", "answer": "2", "completion": "7 8 = 4 9 ; 4 9 = 2 ; # 2"},
)


def by_hand(root: Path, completions: Mapping[int, list[str]], synthetic=SYNTHETIC) -> dict[str, Path]:
    """Inputs synthetic, rollouts and verification of a stage: the completions of each problem as its rollouts."""
    inputs = {name: root / name for name in ("synthetic", "rollouts", "verification")}
    for folder in inputs.values():
        folder.mkdir(parents=True)
    write_jsonl(inputs["synthetic"] / "synthetic.jsonl", synthetic)
    rows = [
        (problem, sample, TOKENIZER.encode_completion(text), -1.0)
        for problem, texts in sorted(completions.items())
        for sample, text in enumerate(texts)
    ]
    frame = pd.DataFrame(rows, columns=["problem", "sample", "tokens", "logp"])
    frame.to_parquet(inputs["rollouts"] / "rollouts.parquet")
    verifier.run({"problems": PROBLEMS}, inputs, inputs["verification"])
    return inputs


def values_by_hand(root: Path, inputs: Mapping[str, Path], values: Mapping, continuations: Mapping = {}) -> Path:
    """A step_values artifact. values: (problem, sample) -> (q_values, prompt_value); continuations: (problem, sample,
    step) -> [(text of what follows the step, reward)].
    """
    folder = root / "step_values"
    folder.mkdir()
    verified = load_verified(inputs["rollouts"], inputs["verification"]).set_index(["problem", "sample"])
    rows = []
    for (problem, sample), (q_values, prompt_value) in values.items():
        tokens = verified["tokens"][problem, sample]
        ends = step_ends(tokens, TOKENIZER.id_of(";"))
        assert len(ends) == len(q_values)
        rows.append((problem, sample, verified["reward"][problem, sample], ends, q_values, prompt_value))
    columns = ["problem", "sample", "reward", "step_ends", "q_values", "prompt_value"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "step_values.parquet")
    found = [
        (*key, index, [*TOKENIZER.encode(text), EOS], reward)
        for key, texts in continuations.items()
        for index, (text, reward) in enumerate(texts)
    ]
    columns = ["problem", "sample", "step", "index", "tokens", "reward"]
    pd.DataFrame(found, columns=columns).to_parquet(folder / "continuations.parquet")
    return folder


def split_steps(tokens: Sequence[int], separator: int | None) -> list[list[int]]:
    """The steps of a completion, in order. A completion of EOS alone is one step; no tokens are no steps."""
    tokens = list(tokens)
    return [tokens[start:end] for start, end in pairwise([0, *step_ends(tokens, separator)])]


def tokens_of(text: str) -> list[int]:
    """Tokens of a completion written by hand, EOS at its end."""
    return TOKENIZER.encode_completion(text)
