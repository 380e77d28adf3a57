"""A stage's config as a recipe writes it, from the few keys that a test is about: the schemas' defaults complete it."""

from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from scaling.config.on_policy import Distill, GroupPg, StepPg
from scaling.config.policy import Lora, Policy
from scaling.config.problems import families, settings_of
from scaling.config.sampling import CriticalSteps, Evaluation, Rollouts, StepValues
from scaling.config.section import Section, plain
from scaling.config.text_problems import Solvable, TextProblems
from scaling.config.training import Awr, Preference, Pretrain, Rft, Sft, StepRft, Unpaired

_SCHEMAS: Mapping[str, object] = {
    "problems": settings_of(families()),
    "policy": Policy,
    "lora": Lora,
    "pretrain": Pretrain,
    "sft": Sft,
    "rft": Rft,
    "step_rft": StepRft,
    "awr": Awr,
    "kto": Unpaired,
    "group_pg": GroupPg,
    "step_pg": StepPg,
    "distill": Distill,
    "dpo": Preference,
    "rollouts": Rollouts,
    "step_values": StepValues,
    "solvable": Solvable,
    "evaluation": Evaluation,
    "critical_steps": CriticalSteps,
}


def whole(config: Mapping[str, object]) -> dict[str, object]:
    """The config with every key of its sections; what is no section stays as it is."""
    return {key: _whole_section(key, value) if key in _SCHEMAS else value for key, value in config.items()}


def _whole_section(name: str, value: object) -> object:
    try:
        section = TypeAdapter(_SCHEMAS[name]).validate_python(value)
    except ValidationError:
        return value  # for the stage itself to refuse
    return plain(section, _elsewhere(section))


def _elsewhere(section: Section) -> set[str]:
    """The keys of a section that no stage has in it."""
    match section:
        case Policy(hf=None):
            return {"hf", "revision", "lora"}
        case Policy():
            return {"size", "base", "lora"}
        case TextProblems():
            return {"path", "solvable"}
        case Distill():
            return {"teacher_size", "teacher_updates"}
        case Evaluation():
            return {"critical_steps"}
        case _:
            return set()
