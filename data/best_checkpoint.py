"""The best of a training run's policies, by validation problems: its snapshots on the way, and the last one.

In: a trained policy with its snapshots, and the fixed problems. Out: the policy with the fewest wrong greedy answers,
the earliest of equal ones, and `checkpoints.jsonl` with one object a policy: update and error. What this samples is
part of what the run costs.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.records import load_problems, read_jsonl, write_jsonl
from data.sampling.completions import EVALUATION, checked, complete, root_key
from data.sampling.sampler import local_sampler
from data.tokens.tokenizer import completion_limit, tokenizer_of
from scaling.config.problems import problems_of
from scaling.config.sampling import Evaluation
from scaling.config.section import parse
from scaling.model.policy import POLICY_FILES, load_policy
from scaling.training.loop import METRICS_FILE
from scaling.training.snapshots import SNAPSHOTS


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Compare. config: problems, evaluation; inputs: policy, problems, base of adapters, and tokenizer if imported."""
    settings, folders = problems_of(config), policies_of(inputs["policy"])
    tokenizer = tokenizer_of(settings, inputs)
    problems = load_problems(inputs["problems"], "validation")
    prompts = [tokenizer.encode_prompt(problem.prompt) for problem in problems]
    limit = completion_limit(settings, tokenizer, parse(Evaluation, config["evaluation"]).max_new_tokens)
    rows, flops = [], 0.0
    for update, folder in folders.items():
        sampler = local_sampler(load_policy(folder, inputs.get("base")))
        found = complete(sampler, prompts, 1, root_key(0, EVALUATION), limit, temperature=0.0, top_p=1.0)
        wrong = [check.reward != 1.0 for check in checked(found, settings, problems, tokenizer)]
        rows.append({"update": update, "error": float(np.mean(wrong))})
        flops += found.flops
    write_jsonl(out / "checkpoints.jsonl", rows)
    best = min(rows, key=lambda row: row["error"])
    for path in (folders[int(best["update"])] / name for name in POLICY_FILES):
        if path.exists():
            shutil.copyfile(path, out / path.name)
    return {
        "num_updates": float(best["update"]),
        "checkpoint_fraction": best["update"] / max(folders) if max(folders) else 1.0,
        "validation_error": best["error"],
        "num_rollouts": float(len(folders) * len(problems)),
        "generation_flops": flops,
    }


def policies_of(trained: Path) -> dict[int, Path]:
    """Update -> folder of each policy of a run, the first ones first. A policy that was passed on has no updates."""
    metrics = trained / METRICS_FILE
    # On-policy, snapshots come after iterations, which may be several updates each.
    end = read_jsonl(metrics)[-1] if metrics.exists() else {"update": 0}
    last, moments = int(end["update"]), end.get("iteration", end["update"])
    snapshots = {int(folder.name): folder for folder in (trained / SNAPSHOTS).glob("*")}
    if moments > 1 and not snapshots:
        raise ValueError(
            f"{trained.name} made {last} updates and kept no snapshots, so its best checkpoint is unknown; its kind has"
            " to hand num_snapshots=config.get('snapshots', 0) to what trains it, or set checkpoint.keep: last."
        )
    return dict(sorted({**snapshots, last: trained}.items()))
