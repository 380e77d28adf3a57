"""Per-step algorithms on a checkpoint: a tiny one with its own tokenizer, from SFT to the outcomes."""

from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pandas as pd
import pytest
from tiny_policy import CONFIG

from data import step_values
from data.problems import modular_sum
from data.problems.text_cuts import line_cuts, sentence_cuts
from data.q_values import first_pit
from data.records import read_problems
from data.rollout_tables import load_step_values, load_verified
from data.tokens.hf_tokenizer import HfTokenizer, load_tokenizer
from data.tokens.steps import step_cutter, text_step_ends
from scaling.config.problems import ModularSum, StarGraph
from scaling.config.sweep import Cell
from scaling.kinds import kind_of, loaded
from scaling.model import replay
from scaling.planning import recipes
from scaling.stage import in_order

pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")

import tokenizers
import transformers
from random_checkpoint import save_random

pytestmark = pytest.mark.slow

SHAPE = replace(CONFIG, vocab_size=264, max_positions=256, width=32, ffn_width=48)
OPTIMIZER = {"learning_rate": 3e-3, "epochs": 1, "batch_size": 8}
LIMIT = 40
SETTINGS = ModularSum(modulus=11, operands=3)
MODES = ("full_vs_prefix", "shared_prefix", "full_vs_full")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_random(tmp_path_factory.mktemp("checkpoint"), SHAPE)


def cell_of(checkpoint, algorithm, adaptive=False, **changes):
    cell = {
        "algorithm": algorithm,
        "data_size": 8,
        "problems": {"family": "modular_sum", "modulus": 11, "operands": 3, "num_validation": 4, "num_test": 6},
        "policy": {"hf": str(checkpoint)},
        "sft": {**OPTIMIZER, "learning_rate": 1e-2, "epochs": 40},
        "rollouts": {"samples_per_problem": 6, "max_new_tokens": LIMIT},
        "step_values": {"rollouts_per_prefix": 3, "negatives_per_problem": 3, "adaptive": adaptive},
        "step_dpo": {**OPTIMIZER, **changes},
        "step_rft": {**OPTIMIZER, "traces_per_problem": 3},
        "evaluation": {"samples_per_problem": 0, "pass_at": [], "max_new_tokens": LIMIT},
    }
    return Cell.of(**cell)


class Study:
    """Stages that have run, each once."""

    def __init__(self, root):
        self.root, self.numbers = root, {}

    def folder(self, stage):
        return self.root / f"{stage.kind}-{stage.digest}"

    def run(self, cell):
        """The stages of a cell by kind."""
        stages = in_order([recipes.evaluation(cell, 0)])
        for stage in stages:
            if stage.digest in self.numbers:
                continue
            self.folder(stage).mkdir()
            inputs = {name: self.folder(given) for name, given in stage.inputs.items()}
            run = loaded(kind_of(stage.kind).run)
            self.numbers[stage.digest] = run({**stage.config, **stage.execution}, inputs, self.folder(stage))
        return {stage.kind: stage for stage in stages}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    return load_tokenizer(checkpoint, SHAPE)


@pytest.fixture(scope="module")
def exhaustive(study, checkpoint):
    return study.run(cell_of(checkpoint, "step_dpo"))


def table_of(study, stages):
    """The step values of a study's traces, with their tokens."""
    verified = load_verified(study.folder(stages["rollouts"]), study.folder(stages["verification"]))
    return load_step_values(study.folder(stages["step_values"]), verified)


def continuations_of(study, stages):
    frame = pd.read_parquet(study.folder(stages["step_values"]) / "continuations.parquet")
    rows = frame.itertuples(index=False)
    return {(row.problem, row.sample, row.step, row.index): (list(row.tokens), row.end, row.reward) for row in rows}


# Where steps end.


def test_the_steps_of_rollouts_are_those_that_the_verifier_judges(study, exhaustive, tokenizer):
    table = table_of(study, exhaustive)
    problems = read_problems(study.folder(exhaustive["teacher"]) / "synthetic.jsonl")
    assert table["step_ends"].map(len).max() > 1
    for row in table.itertuples(index=False):
        check = modular_sum.check(SETTINGS, problems[row.problem], tokenizer.decode(row.tokens))
        steps = [row.tokens[start:end] for start, end in pairwise([0, *row.step_ends])]
        assert [step.text.split() for step in check.steps] == [tokenizer.decode(step).split() for step in steps]
        assert row.step_ends[-1] == len(row.tokens) and len(row.q_values) == len(steps)


@pytest.fixture(scope="module")
def with_fallback(tmp_path_factory):
    """As Llama 2's: words begin with a mark, other characters fall back to bytes, the first blank is dropped."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"Sae.3!\n", "▁a", ".\n", "▁3"]
    model = tokenizers.models.BPE({word: index for index, word in enumerate(words)}, [], byte_fallback=True)
    built = tokenizers.Tokenizer(model)
    built.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    decoders = tokenizers.decoders
    built.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=built, bos_token="<s>", eos_token="</s>")
    return HfTokenizer(fast, (2,), len(words))


@pytest.mark.parametrize("unit", ["line", "sentence"])
@pytest.mark.parametrize("kind", ["tokenizer", "with_fallback"])
def test_any_ids_of_a_tokenizer_are_cut_into_steps_that_join_to_them(kind, unit, request):
    tokenizer, cuts = request.getfixturevalue(kind), {"line": line_cuts, "sentence": sentence_cuts}[unit]
    rng = np.random.default_rng(0)
    likely = tokenizer.encode("\n\r .!?Sa35é世 =")
    for _ in range(100):
        some, any_ids = rng.choice(likely, 30), rng.integers(0, tokenizer.vocab_size, 30)
        tokens = np.where(rng.random(30) < 0.8, some, any_ids).tolist()
        steps = [tokens[start:end] for start, end in pairwise([0, *text_step_ends(tokens, cuts, tokenizer)])]
        assert list(chain.from_iterable(steps)) == tokens and all(steps)
        assert len(steps) == 1 or all(tokenizer.decode(step).strip() for step in steps)


def test_steps_end_at_the_same_places_where_characters_fall_back_to_bytes(with_fallback):
    text = "a é. 世a 3.\na 3"
    tokens = with_fallback.encode_completion(text)
    ends = text_step_ends(tokens, sentence_cuts, with_fallback)
    steps = [with_fallback.tokenizer.convert_ids_to_tokens(tokens[start:end]) for start, end in pairwise([0, *ends])]
    assert steps[0][-3:] == ["<0xC3>", "<0xA9>", "."] and steps[1][-1] == "\n" and steps[2][-1] == "</s>"
    assert len(steps) == 3 and with_fallback.decode(tokens) == text


def test_a_text_is_cut_by_lines_and_by_words_where_it_says(tokenizer):
    text = "hel = 世\r\n\n 3.5 é\nhe"
    tokens = tokenizer.encode_completion(text)
    ends = text_step_ends(tokens, line_cuts, tokenizer)
    assert [tokenizer.decode(tokens[start:end]) for start, end in pairwise([0, *ends])] == [
        "hel = 世\r\n\n",
        " 3.5 é\n",
        "he",
    ]
    assert ends[-1] == len(tokens) and tokens[-1] in tokenizer.stop_tokens
    tokens = tokenizer.encode_completion("4 2 19")
    ends = step_cutter(StarGraph(), tokenizer)(tokens)  # every node is a step
    assert [tokenizer.decode(tokens[start:end]) for start, end in pairwise([0, *ends])] == ["4", " 2", " 19"]


# Step values.


def test_a_continuation_is_judged_with_its_prefix_and_ends_at_the_limit(study, exhaustive, tokenizer):
    problems = read_problems(study.folder(exhaustive["teacher"]) / "synthetic.jsonl")
    written = {(row.problem, row.sample): row.tokens for row in table_of(study, exhaustive).itertuples(index=False)}
    rewards = set()
    for (problem, sample, _, _), (tokens, end, reward) in continuations_of(study, exhaustive).items():
        whole = written[problem, sample][:end] + tokens
        assert modular_sum.check(SETTINGS, problems[problem], tokenizer.decode(whole)).reward == reward
        assert len(whole) <= LIMIT and (tokens[-1] in tokenizer.stop_tokens or len(whole) == LIMIT)
        rewards.add(reward)
    assert rewards == {0.0, 1.0}


@pytest.fixture(scope="module")
def adaptive(study, checkpoint):
    return study.run(cell_of(checkpoint, "step_dpo", adaptive=True))


def test_an_adaptive_estimate_finds_the_same_pits_from_fewer_tokens(study, exhaustive, adaptive):
    tables = [table_of(study, stages) for stages in (exhaustive, adaptive)]
    pits = [[first_pit(row.q_values, row.prompt_value) for row in table.itertuples()] for table in tables]
    assert pits[0] == pits[1] and len(set(pits[0])) > 1
    every, some = (continuations_of(study, stages) for stages in (exhaustive, adaptive))
    assert 0 < len(some) < len(every) and all(every[key] == found for key, found in some.items())
    numbers = study.numbers[adaptive["step_values"].digest]
    assert numbers["num_replayed_tokens"] > 0 and "vocab_size_too_large_to_replay" not in numbers


def test_a_vocabulary_too_large_to_replay_gives_the_same_continuations_and_says_so(
    study, adaptive, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(replay, "SMALL_VOCABULARY", SHAPE.vocab_size - 1)
    stage = adaptive["step_values"]
    inputs = {name: study.folder(given) for name, given in stage.inputs.items()}
    numbers = step_values.run({**stage.config, **stage.execution}, inputs, tmp_path)
    for name in ("continuations.parquet", "step_values.parquet"):
        assert (tmp_path / name).read_bytes() == (study.folder(stage) / name).read_bytes()
    before = study.numbers[stage.digest]
    total = before["num_generated_tokens"] + before["num_replayed_tokens"]
    assert (numbers["num_generated_tokens"], numbers["num_replayed_tokens"]) == (total, 0.0)
    assert numbers["vocab_size_too_large_to_replay"] == SHAPE.vocab_size


# Learning from them.


@pytest.mark.parametrize("mode", MODES)
def test_step_dpo_compares_what_its_pair_mode_says(study, checkpoint, tokenizer, mode):
    stages = study.run(cell_of(checkpoint, "step_dpo", pair_mode=mode))
    table = table_of(study, stages)
    pairs = pd.read_parquet(study.folder(stages["step_pairs"]) / "pairs.parquet")
    problems = read_problems(study.folder(stages["teacher"]) / "synthetic.jsonl")
    expected = {}
    for row in table.itertuples(index=False):
        pit = first_pit(row.q_values, row.prompt_value)
        prompt = tokenizer.encode_prompt(problems[row.problem].prompt)
        start, end = [0, *row.step_ends][pit], row.step_ends[pit]
        ends = {"full_vs_prefix": (0, end), "shared_prefix": (start, end), "full_vs_full": (0, len(row.tokens))}[mode]
        context = prompt + row.tokens[: ends[0]]
        expected.setdefault(row.problem, []).append((context, row.tokens[slice(*ends)]))
    assert len(pairs) > 2
    for row in pairs.itertuples(index=False):
        context, rejected = list(row.context), list(row.rejected)
        assert (context, rejected) in expected[row.problem]
        prompt = tokenizer.encode_prompt(problems[row.problem].prompt)
        whole = tokenizer.decode([*context[len(prompt) :], *row.chosen])
        assert modular_sum.check(SETTINGS, problems[row.problem], whole).reward == 1.0
    assert study.numbers[stages["evaluation"].digest]["num_problems"] == 6


def test_step_rft_learns_whole_steps_that_raise_q(study, checkpoint):
    stages = study.run(cell_of(checkpoint, "step_rft"))
    steps = pd.read_parquet(study.folder(stages["good_steps"]) / "good_steps.parquet")
    ends = {(row.problem, *row.tokens): row.step_ends for row in table_of(study, stages).itertuples(index=False)}
    masks = set()
    for row in steps.itertuples(index=False):
        mask = list(row.mask)
        for start, end in pairwise([0, *ends[row.problem, *row.tokens]]):
            assert len(set(mask[start:end])) == 1
        masks.update(mask)
    assert masks == {0.0, 1.0}
    learned = study.numbers[stages["step_rft"].digest]["num_learned_tokens"]
    assert learned == study.numbers[stages["sft"].digest]["num_learned_tokens"] + sum(map(sum, steps["mask"]))
    assert 0.0 <= study.numbers[stages["evaluation"].digest]["error"] <= 1.0
