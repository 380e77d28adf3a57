"""The settings of problems that each stage sees, and the stage that imports a set in plain language.

In: the settings of `problems`. Out: configs of stages, each with only the keys that change its result, and the
inputs of such a set. A local file is identified by the digest of its content, not by its path.
"""

from collections.abc import Mapping

from data.answers.user_verifiers import verifier_of
from data.sets.problem_files import ALL, SetFile, set_files
from scaling.config.errors import ConfigError
from scaling.config.problems import Problems, ProblemsInLanguage
from scaling.config.section import part, plain
from scaling.config.text_problems import HubProblems, TextProblems
from scaling.stage import Stage

_ANSWERING = ("family", "answer_forms", "grader", "verifier")
_READING = (*_ANSWERING, "calculator_marks", "prompt_key", "answer_key", "solution_key")
_HUB = ("hub", "subset", "revision")
# Of families with a law: what its teacher's solutions alone depend on, and what the base policy's text alone does.
TEACHERS = ("flaw_rate", "flaws", "unneeded_rate")
_WEB = {"web_confidence", "web_unneeded"}
_UNSEEN = {"num_validation", "num_test", "held_out_seed", *_WEB}  # sizes of held-out sets do not affect training


def answering(problems: Problems) -> dict[str, object]:
    """The settings for stages that learn from whole completions, or judge their answers."""
    return _only(problems, _ANSWERING)


def choosing(problems: Problems) -> dict[str, object]:
    """The settings for stages that choose whole completions to learn from, without what is behind their answers."""
    return _only(problems, (*_ANSWERING, "step_rules"))


def judging(problems: Problems) -> dict[str, object]:
    """The settings for stages that read steps."""
    return _only(problems, (*_ANSWERING, "step_unit", "step_rules"))


def teaching(problems: Problems) -> dict[str, object]:
    """The settings that decide the training problems; rows held out of them are not taught."""
    held_out = []
    files = _files(problems) if isinstance(problems, TextProblems) else None
    if files is None or "validation" not in files:
        held_out.append("num_validation")
    if files is not None and ALL in files:
        held_out.append("num_test")
    return _only(problems, (*_ANSWERING, "instruction", *held_out))


def holding_out(problems: Problems) -> dict[str, object]:
    """The settings that decide the validation and test problems."""
    if not isinstance(problems, TextProblems):
        return plain(problems, {*TEACHERS, *_WEB})
    return _only(problems, ("family", "instruction", "num_validation", "num_test"))


def problem_source(problems: Problems) -> dict[str, Stage]:
    """The input `source` of a stage that draws problems; empty if a law draws them."""
    if not isinstance(problems, TextProblems):
        return {}
    files = _files(problems)
    from_hub = files is None and isinstance(problems, HubProblems)
    config: dict[str, object] = {"problems": _only(problems, (*_READING, *(_HUB if from_hub else ())))}
    if files is None:
        return {"source": Stage("problem_source", config, slug=problems.family)}
    config["files"] = {split: file.sha256 for split, file in files.items()}
    paths = {split: str(file.path) for split, file in files.items()}
    return {"source": Stage("problem_source", config, slug=problems.family, execution={"paths": paths})}


def _files(problems: ProblemsInLanguage) -> Mapping[str, SetFile] | None:
    if problems.path is None:
        return None
    try:
        return set_files(problems.path)
    except OSError as error:
        raise ConfigError(f"problems.path: {error}") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _only(problems: Problems, keys: tuple[str, ...]) -> dict[str, object]:
    """These keys of a set in plain language, or all that may affect training of a family with a law."""
    if not isinstance(problems, TextProblems):
        return plain(problems, _UNSEEN)
    values = part(problems, set(keys))
    if isinstance(name := values.get("verifier"), str):
        values["verifier"] = verifier_of(name).identity
    return values
