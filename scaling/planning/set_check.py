"""Whether a set in plain language can give what a sweep asks for, as far as a plan can know.

In: a cell. Out: nothing, or a ConfigError that names the key, the number asked for and the number there is.
"""

from pathlib import Path

from data.answers.user_verifiers import verifier_of
from data.sets.finite_splits import check_counts, rows_known, set_sizes
from scaling.config.errors import ConfigError
from scaling.config.problems import ProblemsInLanguage
from scaling.config.sweep import Cell
from scaling.config.text_problems import Jsonl


def check_set(cell: Cell, problems: ProblemsInLanguage, path: Path) -> None:
    """The policy is a pretrained one, the files are there, and data_size fits. path: of the sweep, for messages."""
    if cell.policy.hf is None:
        raise ConfigError(
            f"{path}: problems.family is {problems.family!r}, which is plain language, but policy.hf is not set; name a"
            " pretrained policy, such as policy: {hf: Qwen/Qwen2.5-0.5B}, or take the family modular_sum or star_graph."
        )
    if isinstance(problems, Jsonl) and problems.path is None:
        raise ConfigError(f"{path}: problems.family is 'jsonl', but problems.path is not set; name your rows' file.")
    try:
        if isinstance(problems, Jsonl) and problems.verifier is not None:
            verifier_of(problems.verifier)
        rows, sizes = rows_known(problems), set_sizes(problems)
        if rows is None or sizes is None:
            return  # the stage that draws the problems will check
        check_counts(problems, rows)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if cell.teacher.named:
        return  # a chat model writes as many as are asked for
    size, there = cell.data_size, sizes["train"]
    chosen = problems.solvable
    if chosen is not None and chosen.shots and chosen.num_candidates + chosen.shots > there:
        raise ConfigError(
            f"{path}: problems.solvable.num_candidates is {chosen.num_candidates} and shots {chosen.shots}, but"
            f" {problems.family} offers {there} training problems for both; lower num_candidates or shots."
        )
    if problems.solvable is not None:
        there = min(there, problems.solvable.num_candidates)
    if size > there:
        which = (
            f"and tries problems.solvable.num_candidates = {problems.solvable.num_candidates} of them"
            if problems.solvable is not None and there == problems.solvable.num_candidates
            else "beside those held out"
        )
        raise ConfigError(
            f"{path}: data_size is {size}, but {problems.family} offers {sizes['train']} training problems {which};"
            " lower data_size."
        )
