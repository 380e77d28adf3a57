"""How large a stage's policy is, and how long its prompts and completions can get, as far as a plan can know.

In: a stage. Out: the policy's shape, and tokens: the longest, for memory, and the expected ones, for time. A
checkpoint's lengths depend on its tokenizer, which plans do not load: a word counts as TOKENS_PER_WORD of its tokens,
and a row of a set in plain language as one for every CHARACTERS_PER_TOKEN.

The shapes of some checkpoints ship with the sweeps, in `configs/<hub name>.json` with the fields of `ModelConfig`: a
plan of these needs neither the hub nor the extra `hf`. Only a plan's FLOPs and memory follow from such a file: what is
trained is the shape of the checkpoint itself, so the file is not part of any stage's identity.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from data.problems.families import family_of
from data.problems.text_cuts import CUTS
from data.sets.row_lengths import RowLengths, row_lengths
from scaling.config.errors import ConfigError
from scaling.config.problems import Problems, problems_of
from scaling.config.section import is_stated
from scaling.config.text_problems import TextProblems
from scaling.kinds import kind_of
from scaling.model.sizes import ModelConfig, model_config
from scaling.paths import SHAPES
from scaling.pretrained.hf_config import CONFIG_FILE, GENERATION_FILE, read_config
from scaling.pretrained.hub import fetch
from scaling.stage import Stage

# A word is one token of its family's vocabulary; of a checkpoint's, as many as a two-digit number has with its blank.
TOKENS_PER_WORD = 3
# Digits are tokens of their own: GSM8K's problems have 3.9 characters a token of SmolLM2, its solutions 2.3.
CHARACTERS_PER_TOKEN = 2.5
_INSTRUCTION = 60  # tokens of an instruction and a chat template
# Mean characters of problem and solution, and steps of a solution, in sets of the hub (7,473 rows of GSM8K).
_HUB: Mapping[str, tuple[float, float, float]] = {"gsm8k": (235.0, 248.0, 4.5)}


def longest(stage: Stage) -> tuple[ModelConfig, int, int]:
    """The shape of a stage's policy, and the tokens of the longest prompt and completion it trains on or samples."""
    problems, shape, tokens = setting(stage)
    family = family_of(problems)
    prompt = tokens * family.max_prompt_words(problems) + 1
    solution = tokens * family.max_completion_words(problems) + 1
    # Each shot is another problem and its own solution. Several together are hardly ever twice as long as on average.
    shot = prompt + solution
    if (rows := _rows(stage)) is not None:
        prompt = _INSTRUCTION + math.ceil(rows.longest_problem / CHARACTERS_PER_TOKEN)
        shot = _INSTRUCTION + math.ceil(2 * (rows.problem + rows.solution) / CHARACTERS_PER_TOKEN)
    return shape, prompt + shots(stage) * shot, _completion_tokens(stage, solution)


def expected(stage: Stage) -> tuple[ModelConfig, float, float]:
    """The same as `longest`, but as many tokens as prompts and completions have on average.

    A sampled completion counts as one of the set's solutions, or as its limit if that is shorter.
    """
    shape, longest_prompt, longest_completion = longest(stage)
    if (rows := _rows(stage)) is not None:
        problem, solution = rows.problem, rows.solution
    elif (known := _HUB.get(setting(stage)[0].family)) is not None:
        problem, solution, _ = known
    else:
        return shape, longest_prompt, longest_completion
    prompt, completion = _INSTRUCTION + problem / CHARACTERS_PER_TOKEN, solution / CHARACTERS_PER_TOKEN + 1
    if not solution:
        completion = longest_completion
    prompt += shots(stage) * (prompt + completion)
    return shape, min(prompt, longest_prompt), min(completion, longest_completion)


def expected_steps(stage: Stage) -> float:
    """Steps of a solution, or the most of them where no rows are known."""
    problems, _, _ = setting(stage)
    rows = _rows(stage)
    if rows is None and problems.family in _HUB:
        return _HUB[problems.family][2]
    if rows is not None and rows.solutions and isinstance(problems, TextProblems) and is_stated(problems, "step_unit"):
        return _mean_steps(rows.solutions, problems.step_unit)
    return family_of(problems).max_steps(problems)


@cache  # cutting hundreds of solutions at every stage would take longer than the rest of a plan
def _mean_steps(solutions: tuple[str, ...], unit: str) -> float:
    return sum(len(CUTS[unit](text)) + 1 for text in solutions) / len(solutions)


def _rows(stage: Stage) -> RowLengths | None:
    """The lengths of the stage's own rows, where a local set is read."""
    source = next((found for found in nearest_first(stage) if found.kind == "problem_source"), None)
    if source is None:
        return None
    try:
        return row_lengths(source)
    except (OSError, ValueError) as error:
        raise ConfigError(f"problems.path: {error}") from error


def setting(stage: Stage) -> tuple[Problems, ModelConfig, int]:
    """The family's config, the policy's shape, and how many tokens a word has."""
    base = stage if "pretrain" in stage.config else ancestor(stage, "pretrain")  # an oracle has none
    policy = base.config["policy"]
    if "hf" in policy:
        nearest = stage if "problems" in stage.config else ancestor(stage, "teacher")
        problems = problems_of(nearest.config)
        # Without words, lengths count tokens.
        tokens = TOKENS_PER_WORD if family_of(problems).vocabulary(problems) else 1
        shape = _imported(base.execution.get("checkpoint", policy["hf"]), policy["revision"])
        return problems, replace(shape, bfloat16=_is_bfloat16(policy)), tokens
    problems = problems_of(base.config)
    words = len(family_of(problems).vocabulary(problems))
    if "trained_on" in stage.config:  # the problems of a further test set may be longer
        problems = problems_of(stage.config)
    shape = model_config(policy["size"], words + 3)  # and the three special tokens
    return problems, replace(shape, bfloat16=_is_bfloat16(policy)), 1


def shots(stage: Stage) -> int:
    """Worked examples before each prompt: only the choice of solvable problems has them."""
    return int(stage.config["solvable"]["shots"]) if "solvable" in stage.config else 0


def nearest_first(stage: Stage) -> Iterator[Stage]:
    """The stage and all its ancestors, each once, the nearest first."""
    found = [stage]
    for current in found:  # it grows while it is read
        yield current
        found += [parent for parent in current.inputs.values() if parent not in found]


def ancestor(stage: Stage, kind: str) -> Stage:
    """The nearest ancestor of a kind, the stage itself included."""
    return next(found for found in nearest_first(stage) if found.kind == kind)


def _completion_tokens(stage: Stage, family_tokens: int) -> int:
    """The longest completion that a stage samples or learns from; the teacher's are as long as the family allows."""
    if kind_of(stage.kind).samples is not None:
        own = _own_limit(stage)
        return family_tokens if own is None else own
    if "traces" in stage.inputs:  # it reads the samples of another stage
        return _completion_tokens(stage.inputs["traces"], family_tokens)
    rollouts = [found for found in nearest_first(stage) if found.kind == "rollouts"]
    return max([family_tokens, *(_completion_tokens(found, family_tokens) for found in rollouts[:1])])


def _own_limit(stage: Stage) -> int | None:
    samples = kind_of(stage.kind).samples
    if samples is None:
        return None
    section = stage.config if samples.section is None else stage.config[samples.section]
    return section.get("max_new_tokens")


def _is_bfloat16(policy: Mapping[str, object]) -> bool:
    return policy.get("compute_dtype") == "bfloat16"


@cache  # used at every stage of a plan
def _imported(hf: str, revision: str | None) -> ModelConfig:
    try:
        return known_shape(hf) or imported_shape(hf, revision)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"policy.hf: {error}") from error


def known_shape(hf: str, configs: Path = SHAPES) -> ModelConfig | None:
    """The shape that ships for a checkpoint; raises ValueError naming a file that holds no shape."""
    path = configs / f"{hf}.json"
    if Path(hf).is_absolute() or ".." in Path(hf).parts or not path.is_file():
        return None
    try:
        return ModelConfig.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not the shape of a decoder: {error}. Its fields are those of ModelConfig."
        ) from error


def imported_shape(hf: str, revision: str | None) -> ModelConfig:
    """The shape that a checkpoint's own config states."""
    source = fetch(hf, revision, (CONFIG_FILE, GENERATION_FILE))
    if source.path.suffix != ".gguf":
        return read_config(source.path)
    from scaling.pretrained.gguf_file import read_shape  # brings jax

    return read_shape(source.path)


def check_room(stages: Iterable[Stage], path: Path) -> None:
    """Reject limits beyond a checkpoint's context. path: of the sweep, for messages.

    Prompt lengths depend on the checkpoint's tokenizer: a limit is rejected here if no prompt, however short, leaves
    room for it; `scaling.model.sampling.sample` rejects the rest before it samples.
    """
    for stage in stages:
        samples = kind_of(stage.kind).samples
        if samples is None or "hf" not in ancestor(stage, "pretrain").config["policy"]:
            continue  # embedded policies have no limit
        problems, shape, _ = setting(stage)
        if family_of(problems).vocabulary(problems) and _own_limit(stage) is None:
            continue  # the tokens of a word are for the checkpoint's tokenizer to decide
        limit, room = longest(stage)[2], shape.max_positions
        if room is not None and limit >= room:  # the shortest prompt is one token
            raise ConfigError(
                f"{path}: {samples.sweep_key}.max_new_tokens allows completions of {limit} tokens, but the policy was"
                f" made for max_positions = {room}, prompt and completion together; set it to less than {room}, with"
                " room for the prompts."
            )
