"""The start of every recipe: the base policy, problems, D_syn and the SFT policy, and the shared parts of their
configs.

In: `Cell` and a seed. Out: `Stage`s, and the parts of configs and inputs that several kinds of stages share. A key that
earlier artifacts lack is left out at its default, so that they keep their digests.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from scaling.config.errors import ConfigError
from scaling.config.on_policy import Distill
from scaling.config.section import part, plain
from scaling.config.sweep import Cell
from scaling.config.teacher import how_it_is_asked, what_is_written
from scaling.config.text_problems import TextProblems
from scaling.config.training import Sft
from scaling.paths import from_current, is_path
from scaling.planning.set_stages import TEACHERS, answering, holding_out, judging, problem_source, teaching
from scaling.pretrained.hub import content_digest
from scaling.stage import Stage

_REMOTE = "remote"
# A recipe needs the same inputs several times; a stage and its digest are made once for each cell and seed.
once = lru_cache(maxsize=1024)


@once
def base_policy(cell: Cell) -> Stage:
    """Pretraining on web text, or the import of a checkpoint.

    The web text does not depend on the operands' distribution, the teacher or the test set; a checkpoint depends on no
    setting of the study, and a local one is identified by its content.
    """
    if cell.policy.hf is not None:
        policy, name = cell.policy, cell.policy.hf
        place: dict[str, str] = {}
        if is_path(name):
            path = from_current(name)
            policy, place = policy.model_copy(update={"hf": _content(path)}), {"checkpoint": str(path)}
        source = part(policy, {"hf", "revision", "prompt_template", "compute_dtype"})
        return Stage("pretrain", {"policy": source}, slug=name.rstrip("/").rpartition("/")[2], execution=place)
    unseen = {"zipf_exponent", *TEACHERS, "num_validation", "num_test", "held_out_seed"}
    config = {
        "problems": plain(cell.problems, unseen),
        "policy": part(cell.policy, {"size", "base", "compute_dtype"}),
        "pretrain": plain(cell.pretrain),
    }
    if cell.policy.base == "random":
        config["pretrain"] = part(cell.pretrain, {"seed"})
    return Stage("pretrain", config, slug=f"{cell.problems.family}-{cell.policy.size}")


@once
def oracle(cell: Cell, settings: Distill) -> Stage:
    """A stronger base policy, for distillation: pretrained on right solutions of the study's own problems."""
    if isinstance(cell.problems, TextProblems) or cell.policy.hf is not None:
        raise ConfigError(
            "algorithm is 'distill', whose teacher is pretrained here on right solutions that a family's law draws, but"
            f" {'policy.hf is set' if cell.policy.hf else 'the problems are rows of a set'}; use another learner."
        )
    changes = {"size": settings.teacher_size or cell.policy.size}
    updates = {"num_updates": settings.teacher_updates or cell.pretrain.num_updates}
    problems = {key: value for key, value in judging(cell.problems).items() if key != "flaws"}
    config = {
        "problems": problems | {key: 0.0 for key in TEACHERS if key in problems},
        "policy": part(cell.policy, {"size", "compute_dtype"}) | changes,
        "pretrain": plain(cell.pretrain) | updates,
    }
    return Stage("oracle", config, slug=f"{cell.problems.family}-{changes['size']}")


@once
def fixed_problems(cell: Cell) -> Stage:
    """The validation and test problems, the same for every seed and size."""
    config = {"problems": holding_out(cell.problems)}
    return Stage("problems", config, problem_source(cell.problems), slug=cell.problems.family)


@once
def solvable(cell: Cell) -> Stage:
    """The training problems of a set that the base policy sometimes solves: one choice for all sizes and seeds."""
    assert isinstance(cell.problems, TextProblems) and cell.problems.solvable is not None  # the callers check this
    settings = plain(cell.problems.solvable)
    inputs = {**problem_source(cell.problems), "policy": base_policy(cell), **tokenizer(cell)}
    problems = teaching(cell.problems) | judging(cell.problems)  # it counts steps
    config = {"problems": problems, "solvable": settings}
    return Stage("solvable", config, inputs, slug=f"{cell.problems.family}-{base_policy(cell).slug}")


@once
def synthetic(cell: Cell, seed: int) -> Stage:
    """D_syn: the first data_size problems of the seed's stream with the teacher's solutions.

    A chat model writes new ones from the training problems; those close to validation and test problems are dropped.
    """
    config = {
        "problems": teaching(cell.problems),
        "teacher": what_is_written(cell.teacher),
        "data_size": cell.data_size,
        "seed": seed,
    }
    if cell.teacher.named:
        execution = {"asking": how_it_is_asked(cell.teacher)}
        return Stage("teacher", config, {"problems": fixed_problems(cell)}, slug(cell, seed), execution=execution)
    inputs = problem_source(cell.problems)
    if isinstance(cell.problems, TextProblems) and cell.problems.solvable is not None:
        inputs["solvable"] = solvable(cell)
    return Stage("teacher", config, inputs, slug=slug(cell, seed))


@once
def sft_policy(cell: Cell, seed: int) -> Stage:
    """SFT of the base policy on D_syn."""
    return sft_stage(cell, seed, plain(cell.section(Sft)), synthetic(cell, seed), slug(cell, seed))


def sft_stage(cell: Cell, seed: int, settings: Mapping[str, object], solutions: Stage, named: str) -> Stage:
    """NLL training of the base policy on solutions."""
    config = {"problems": answering(cell.problems), "sft": settings, "seed": seed, **adapters(cell)}
    inputs = {"base": base_policy(cell), "synthetic": solutions, **tokenizer(cell)}
    return Stage("sft", config, inputs, slug=named)


def best_checkpoint(cell: Cell, trained: Stage) -> Stage:
    """The policy of a training run that `checkpoint` keeps: its last one, or the best on the validation problems."""
    if cell.checkpoint.keep == "last":
        return trained
    config = {**trained.config, "snapshots": cell.checkpoint.among}
    with_snapshots = replace(trained, config=config, slug=f"{trained.slug}-snapshots")
    config = {"problems": answering(cell.problems), "evaluation": part(cell.evaluation, {"max_new_tokens"})}
    inputs = {"policy": with_snapshots, "problems": fixed_problems(cell), **tokenizer(cell), **start_of_adapters(cell)}
    return Stage("best_checkpoint", config, inputs, slug=f"{trained.kind}-{trained.slug}")


def sampled(cell: Cell, stage: Stage) -> Stage:
    """The stage for this project's sampler, or with the changes that a cell's server makes.

    The use of a server is part of the stage's identity, since its noise differs from ours. Its address and limits are
    not, since they change no result.
    """
    if cell.sampler is None:
        return stage
    folder = from_current(cell.sampler.folder)
    server = cell.sampler.model_dump(mode="json") | {"folder": str(folder)}
    config = {**stage.config, "sampler": _REMOTE}
    if not cell.sampler.export:
        config["served_model"] = cell.sampler.model  # the server decides which policy samples
    return replace(stage, config=config, execution={**stage.execution, "server": server})


def is_on_server(stage: Stage) -> bool:
    """Whether a server samples for the stage; `problems.solvable` is always sampled here."""
    return stage.config.get("sampler") == _REMOTE


def _content(path: Path) -> str:
    try:
        return content_digest(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"policy.hf: {error}") from error


def derived_seed(seed: int, use: int) -> int:
    """A separate seed for each use of a run's seed; use 0 is the seed itself.

    Multiples of this odd number stay far apart modulo 2^32: a hundred uses of seeds below a million never collide.
    """
    return (seed + use * 0x9E3779B9) % 2**32


def slug(cell: Cell, seed: int) -> str:
    return f"d{cell.data_size}-s{seed}"


def tokenizer(cell: Cell) -> dict[str, Stage]:
    """The imported policy, whose artifact holds the tokenizer; embedded policies read the family's words."""
    return {} if cell.policy.hf is None else {"tokenizer": base_policy(cell)}


def start_of_adapters(cell: Cell) -> dict[str, Stage]:
    """The base policy, for stages that read a policy trained with LoRA: its artifact holds only the adapters."""
    return {} if cell.policy.lora is None else {"base": base_policy(cell)}


def adapters(cell: Cell) -> dict[str, object]:
    """The lora setting of a training stage. Absent if all params are trained, so that earlier digests stay."""
    return {} if cell.policy.lora is None else {"lora": plain(cell.policy.lora)}
