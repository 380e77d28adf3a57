"""The base policy: next-token prediction on the family's web text, in place of a pretrained language model.

In: the family's config and the architecture. Out: a policy that knows the procedure and is wrong about facts with
graded confidence; or, as an oracle for distillation, one that learned from right solutions of the study's own problems.
Text is drawn again for every update, from a generator keyed by (seed, update).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from algorithms import import_policy
from algorithms.sft import nll
from data.problems.families import family_of
from data.tokens.tokenizer import for_problems
from scaling.config.policy import Policy as PolicySettings
from scaling.config.problems import drawn_problems_of
from scaling.config.section import parse
from scaling.config.training import Pretrain
from scaling.model.ambient import as_in_force
from scaling.model.flops import training_flops
from scaling.model.policy import Policy, save_policy
from scaling.model.sizes import model_config
from scaling.model.transformer import architecture
from scaling.training.batching import Sequences, micro_batches, sequences
from scaling.training.loop import Updates, run_updates
from scaling.training.update import Objective, settings_at

_STREAM = 0x3EB  # keeps the web text's generators apart from every other stream of the same seed
_ORACLE = 0x04AC  # the same for the oracle's text
Text = Callable[[np.random.Generator], tuple[str, str]]  # a prompt and a completion


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Train the base policy, or import it. config: problems (what the web text depends on), policy, pretrain."""
    if "hf" in config["policy"]:
        return import_policy.run(config, inputs, out)
    problems, settings = drawn_problems_of(config), parse(Pretrain, config["pretrain"])
    if config["policy"]["base"] == "random":
        policy = _fresh(config, settings.seed)
        save_policy(policy, out)
        return {"training_flops": 0.0, "num_updates": 0.0}
    family = family_of(problems)
    facts = family.web_facts(problems, settings.seed)
    return _trained(config, settings, lambda rng: family.web_text(problems, rng, facts), _STREAM, out)


def run_oracle(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Train on right solutions of problems as the study draws them. config: problems, policy, pretrain."""
    problems = drawn_problems_of(config)
    family = family_of(problems)

    def solved(rng: np.random.Generator) -> tuple[str, str]:
        problem = family.draw(problems, rng)
        return problem.prompt, family.solve(problems, problem, rng)

    return _trained(config, parse(Pretrain, config["pretrain"]), solved, _ORACLE, out)


def _fresh(config: Mapping[str, Any], seed: int) -> Policy:
    policy = parse(PolicySettings, config["policy"])
    vocab_size = for_problems(drawn_problems_of(config)).vocab_size
    shape = replace(as_in_force(model_config(policy.size, vocab_size)), bfloat16=policy.compute_dtype == "bfloat16")
    return Policy(architecture(shape).init(jax.random.key(seed)), shape)


def _trained(config: Mapping[str, Any], settings: Pretrain, text: Text, stream: int, out: Path) -> dict[str, float]:
    """Next-token prediction on texts, each update on its own."""
    policy, tokenizer = _fresh(config, settings.seed), for_problems(drawn_problems_of(config))

    def texts_of(index: int) -> Sequences:
        rng = np.random.default_rng([stream, settings.seed, index])
        texts = [text(rng) for _ in range(settings.batch_size)]
        return sequences(
            [tokenizer.encode_prompt(prompt) for prompt, _ in texts],
            [tokenizer.encode_completion(completion) for _, completion in texts],
        )

    def batch_at(index: int) -> list[dict[str, np.ndarray]]:
        rows = texts_of(index)
        arrays, size = {"tokens": rows.tokens, "mask": rows.mask}, settings.batch_size
        return [batch for _, batch in micro_batches(arrays, np.arange(size), rows.lengths, size)]

    updates = Updates(settings.num_updates, batch_at, partial(settings_at, settings, settings.num_updates))
    params, metrics = run_updates(policy.params, policy.config, updates, Objective(nll), out)
    save_policy(Policy(params, policy.config), out)
    length = int(texts_of(0).lengths.mean())  # nearly constant within a family
    flops = settings.num_updates * training_flops(policy.config, [length] * settings.batch_size)
    return {**metrics, "training_flops": flops}
