"""Trained policies in a notebook: complete prompts of your own.

    from scaling.api import load_policy

In: the folder of a policy's artifact, or a sweep file and which of its runs. Out: `LoadedPolicy`. Importing this module
brings no jax; `load_policy` does. docs/api.md has examples.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.config.errors import ConfigError
from scaling.config.problems import Problems, problems_of
from scaling.engine.results_dir import open_store
from scaling.paths import SHIPPED
from scaling.planning.plan import Run, plan
from scaling.planning.sweep_file import load_sweep
from scaling.planning.which_run import left_open, runs_with, stated

if TYPE_CHECKING:  # these bring jax
    from data.sampling.sampler import Sampler
    from data.tokens.tokenizer import AnyTokenizer

__all__ = ["Completion", "LoadedPolicy", "PolicyError", "load_policy"]

WITHOUT_FAMILY = 256  # new tokens at most, where a checkpoint was imported for no family in particular
_SHAPE, _RECORD = "policy.json", "record.json"
NOTHING: Mapping[str, object] = MappingProxyType({})


class PolicyError(ValueError):
    """There is no such policy. The message says where it was looked for, and the cure."""


@dataclass(frozen=True)
class Completion:
    """What a policy wrote after a prompt; pd.DataFrame(completions) makes a table of them."""

    prompt: str
    sample: int  # index among the prompt's samples
    text: str
    logp: float  # log-probability of all its tokens at temperature 1, in nats
    num_tokens: int  # the stop token included
    finished: bool  # False: the limit of new tokens has cut it


@dataclass(frozen=True, repr=False)
class LoadedPolicy:
    """A policy with its tokenizer."""

    name: str
    _sampler: "Sampler"
    _tokenizer: "AnyTokenizer"
    _limit: int  # new tokens by default
    _inputs: Mapping[str, Path]  # as a stage that samples has them
    _problems: Problems | None

    def generate(
        self,
        prompts: Sequence[str],
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
        top_p: float = 1.0,
        max_new_tokens: int | None = None,
    ) -> list[Completion]:
        """Completions of every prompt, `samples` of each, in the order of the prompts.

        prompts: texts; an embedded family's are words of its vocabulary, such as "3 5 7 1 ?"; a checkpoint with a chat
        template gets each as the user's turn. temperature: 0 is greedy. top_p: share of probability that is sampled
        from. max_new_tokens: the stop token included; None: what the family's longest solution takes, 256 without one.
        A completion depends on its prompt, sample and seed alone, not on the other prompts.
        Raises ValueError for settings out of range, an unknown word, or a prompt too long for the policy.
        """
        from data.sampling.completions import GENERATION, root_key
        from scaling.model.sampling import row_keys, stop_tokens

        limit = self._limit if max_new_tokens is None else max_new_tokens
        _check_settings(prompts, temperature, samples, seed, top_p, limit)
        if not prompts:
            return []
        encoded = [self._tokenizer.encode_prompt(prompt) for prompt in prompts]
        rows = [(prompt, sample) for prompt in range(len(prompts)) for sample in range(samples)]
        ids = np.array([(*_two_words(prompts[prompt]), sample) for prompt, sample in rows], np.uint32)
        keys = row_keys(root_key(seed, GENERATION), ids)
        sampled = self._sampler.sample(
            [encoded[prompt] for prompt, _ in rows], keys, [limit] * len(rows), temperature, top_p
        )
        assert sampled.logps is not None  # only servers may leave them out
        stops = stop_tokens(self._sampler.shape)
        return [
            Completion(
                prompts[prompt],
                sample,
                self._tokenizer.decode(tokens),
                float(logp),
                len(tokens),
                bool(tokens) and tokens[-1] in stops,
            )
            for (prompt, sample), tokens, logp in zip(rows, sampled.completions, sampled.logps, strict=True)
        ]

    def judge(self, prompt: str, answer: str, text: str) -> tuple[bool, str | None]:
        """Whether the family's verifier accepts a completion of a problem with this answer, and the answer it states.

        Raises PolicyError for a checkpoint that was imported for no family.
        """
        from data.problems.families import family_of
        from data.records import Problem

        if self._problems is None:
            raise PolicyError(f"{self.name} states no problem family, so that nothing judges its answers.")
        check = family_of(self._problems).check(self._problems, Problem(prompt, answer), text)
        return check.reward == 1.0, check.answer

    def export(self, folder: str | os.PathLike[str]) -> Path:
        """Write a Hugging Face checkpoint in float32, adapters merged, with its tokenizer, for others to load.

        folder: is made by this call. Raises PolicyError where it is there already.
        """
        from data.sampling.export import export_policy

        target = Path(folder).expanduser().absolute()
        if target.exists():
            raise PolicyError(f"{target} is there already; name a folder that this call can make.")
        return export_policy(self._inputs, self._tokenizer, target.parent, target.name)

    def __repr__(self) -> str:
        return f"<Policy {self.name}: {self._sampler.shape.num_params:,} parameters>"


def load_policy(
    source: str | os.PathLike[str], where: Mapping[str, object] = NOTHING, overrides: Sequence[str] = ()
) -> LoadedPolicy:
    """A policy that a sweep trained or started from.

    source: the folder of its artifact, such as scaling/shipped/pretrain/modular_sum-xs-14a70b4333; or a sweep file,
    such as sweeps/quickstart.yaml. Of a sweep, where says which run, by algorithm, data_size, seed and the sweep's
    other axes: {"algorithm": "rft", "data_size": 256, "seed": 6}; what all runs have in common may be left out.
    overrides: KEY=VALUE, as given to scaling.sweep with --set.
    Raises PolicyError where there is no such policy, or more than one; ConfigError for a wrong sweep file.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if where or overrides:
            raise PolicyError(f"{path} is one policy; where and overrides choose among the runs of a sweep file.")
        return _from_folder(path)
    if path.suffix not in (".yaml", ".yml"):
        raise PolicyError(
            f"{path} is neither a folder nor a sweep file; give a policy's artifact, or sweeps/NAME.yaml."
        )
    return _from_sweep(path, where, overrides)


def _from_folder(folder: Path) -> LoadedPolicy:
    """A policy by its artifact's records, which name the artifacts that it was made from."""
    records = dict(_ancestry(folder))
    if not (folder / _SHAPE).is_file():
        kind = records[folder]["kind"]
        raise PolicyError(
            f"{folder} is an artifact of kind {kind}, which holds no policy; pretrain, sft and an algorithm's own do."
        )
    base = next((path for path, record in records.items() if record["kind"] == "pretrain"), None)
    stated = [record["config"]["problems"] for record in records.values() if "problems" in record["config"]]
    problems = problems_of({"problems": stated[0]}) if stated else None
    inputs = {"policy": folder} | ({} if base is None else {"base": base})
    if base is not None and "hf" in records[base]["config"]["policy"]:
        inputs["tokenizer"] = base
    elif problems is None:
        raise PolicyError(
            f"{folder} states no problem family, and the artifacts that it was made from are not beside it or in"
            f" {SHIPPED}; without them its tokenizer is not known. Give the folder inside of its store."
        )
    return _loaded(folder.name, inputs, problems)


def _ancestry(folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The artifact and those that it was made from, nearest first, with their records; those that are here."""
    if not (folder / _RECORD).is_file():
        raise PolicyError(
            f"{folder} is not an artifact: it has no {_RECORD}. Give a folder such as STORE/sft/d256-s6-DIGEST."
        )
    roots, seen, queue = (folder.resolve().parent.parent, SHIPPED), set[str](), [folder]
    while queue:
        current = queue.pop(0)
        record = json.loads((current / _RECORD).read_text(encoding="utf-8"))
        yield current, record
        for digest in record["inputs"].values():
            if digest not in seen:
                seen.add(digest)
                found = (path.parent for root in roots for path in sorted(root.glob(f"*/*{digest}/{_RECORD}")))
                queue += list(found)[:1]


def _from_sweep(file: Path, where: Mapping[str, object], overrides: Sequence[str]) -> LoadedPolicy:
    sweep = load_sweep(file, overrides)
    store = open_store(sweep)
    current = plan(sweep, store.numbers)
    run = _only_run(current.runs, where, file)
    if run.stage.digest in current.waiting_digests:
        raise PolicyError(
            f"{file}: the settings of the run {run.name} are not chosen yet; run python -m scaling.sweep {file} first."
        )
    stages = {name: stage for name, stage in run.stage.inputs.items() if name in ("policy", "base", "tokenizer")}
    inputs = {}
    for name, stage in stages.items():
        found = store.find(stage)
        if found is None:
            raise PolicyError(
                f"{file}: {stage.name}, the {name} of the run {run.name}, is not in {store.root}; run"
                f" python -m scaling.sweep {file} first."
            )
        inputs[name] = store.local(found)
    return _loaded(stages["policy"].name, inputs, run.cell.problems)


def _only_run(runs: Iterable[Run], where: Mapping[str, object], file: Path) -> Run:
    """The run with these values; runs that differ in an axis without effect on them share one policy."""
    try:
        found = runs_with(runs, where, file)
    except ConfigError as error:
        raise PolicyError(str(error)) from error
    if len({run.stage.inputs["policy"].digest for run in found}) > 1:
        raise PolicyError(
            f"{len(found)} runs of {file} have {stated(where) or 'no value asked for'}; also say which"
            f" {left_open(found)}."
        )
    return found[0]


def _loaded(name: str, inputs: Mapping[str, Path], problems: Problems | None) -> LoadedPolicy:
    """inputs: as a stage has them: policy, base where that holds adapters, tokenizer where it was imported."""
    from data.sampling.sampler import local_sampler
    from data.tokens.hf_tokenizer import load_tokenizer
    from data.tokens.tokenizer import completion_limit, for_problems
    from scaling.model.policy import load_shape, policy_of

    tokenizer: AnyTokenizer
    if "tokenizer" in inputs:
        tokenizer = load_tokenizer(inputs["tokenizer"], load_shape(inputs["tokenizer"]))
    else:
        assert problems is not None
        tokenizer = for_problems(problems)
    limit = WITHOUT_FAMILY if problems is None else completion_limit(problems, tokenizer, None)
    return LoadedPolicy(name, local_sampler(policy_of(inputs, "policy")), tokenizer, limit, inputs, problems)


def _check_settings(
    prompts: Sequence[str], temperature: float, samples: int, seed: int, top_p: float, limit: int
) -> None:
    if isinstance(prompts, str):
        raise ValueError(f"prompts is the text {prompts[:60]!r}; give a list of texts: [{prompts[:60]!r}].")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; it is 0, for greedy completions, or above.")
    if samples < 1 or limit < 1:
        raise ValueError(f"samples is {samples} and max_new_tokens {limit}; both are 1 or more.")
    if samples > 1 and temperature == 0:
        raise ValueError(f"samples is {samples} at temperature 0, where all are the same; give a temperature above 0.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; it is from 0 to 2**32 - 1.")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; it is above 0 and up to 1.")


def _two_words(prompt: str) -> tuple[int, int]:
    """64 bits of a prompt's sha256: what its randomness is keyed by."""
    digest = hashlib.sha256(prompt.encode()).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")
