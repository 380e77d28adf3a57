"""The problem families by name. A new family is one file beside this one and one line here.

A family is a module of functions on its frozen config: vocabulary, step_unit, step_separator, max_prompt_words,
max_completion_words, max_steps, num_distinct, draw, log_probability, solve, web_facts, web_text, answer and check.
Its step_unit is "word-separator", "line" or "sentence"; step_separator is that of "word-separator".
"""

from collections.abc import Mapping
from types import ModuleType

from data.problems import modular_sum, star_graph
from scaling.problem_config import ModularSum, StarGraph

FAMILIES: Mapping[str, ModuleType] = {"modular_sum": modular_sum, "star_graph": star_graph}


def family_of(config: ModularSum | StarGraph) -> ModuleType:
    """The module that draws, solves and checks this config's problems."""
    return FAMILIES[config.family]
