"""The problem families by name. A new family is one file beside this one and one line here.

A family is a module of functions on its frozen config: vocabulary, step_unit, step_separator, max_prompt_words,
max_completion_words, max_steps, num_distinct, draw, log_probability, solve, web_facts, web_text, web_entropy, answer
and check; and misconceptions, where web_facts gives any.
Its step_unit is "word-separator", "line" or "sentence"; step_separator is that of "word-separator".

The sets in plain language share one module. Their problems are rows of a set, not drawn from a law, so they have no
num_distinct, draw, log_probability and no web text; data.sets.problem_pool distinguishes the two.
"""

from collections.abc import Mapping
from types import ModuleType

from data.problems import modular_sum, star_graph, text_problems
from scaling.config.problems import ModularSum, StarGraph
from scaling.config.text_problems import TextProblems

FAMILIES: Mapping[str, ModuleType] = {
    "modular_sum": modular_sum,
    "star_graph": star_graph,
    "gsm8k": text_problems,
    "math": text_problems,
    "jsonl": text_problems,
}


def family_of(config: ModularSum | StarGraph | TextProblems) -> ModuleType:
    """The module that draws, solves and checks this config's problems."""
    return FAMILIES[config.family]
