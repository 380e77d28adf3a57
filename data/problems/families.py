"""The functions of a problem family, and the module that implements them for a config.

A family is a module of functions on its frozen config: those of `Family`. Families whose problems are drawn from a law
have those of `DrawnFamily` too. Its record in `scaling.config.problems` names the module: a new family is one file
here and one line there, or a plug-in (docs/plugins.md).

The sets in plain language share one module. Their problems are rows of a set, not drawn from a law;
data.sets.problem_pool distinguishes the two.
"""

import importlib
from typing import Any, Protocol, overload

import numpy as np

from data.problems import ledger, modular_sum, star_graph, text_problems  # noqa: F401  (for digests, which follow imports)
from data.records import Check, Problem
from scaling.config.errors import ConfigError
from scaling.config.problems import DrawnProblems, Problems, family_named


class Family(Protocol):
    """The functions of every family. The config is the family's own."""

    def vocabulary(self, config: Any, /) -> tuple[str, ...]: ...

    def max_prompt_words(self, config: Any, /) -> int: ...

    def max_completion_words(self, config: Any, /) -> int: ...

    def max_steps(self, config: Any, /) -> int: ...

    def solve(self, config: Any, problem: Problem, rng: np.random.Generator, /) -> str: ...

    def answer(self, config: Any, completion: str, /) -> str | None: ...

    def check(self, config: Any, problem: Problem, completion: str, /) -> Check: ...


class DrawnFamily(Family, Protocol):
    """Further functions of families whose problems are drawn from a law, and whose base policy learns from web text."""

    def step_separator(self, config: Any, /) -> str | None:
        """The word that ends a step; None: every word is one."""

    def num_distinct(self, config: Any, /) -> int: ...

    def draw(self, config: Any, rng: np.random.Generator, /) -> Problem: ...

    def log_probability(self, config: Any, problem: Problem, /) -> float: ...

    def web_facts(self, config: Any, seed: int, /) -> Any:
        """The `facts` for the family's other web functions."""

    def web_text(self, config: Any, rng: np.random.Generator, facts: Any, /) -> tuple[str, str]: ...

    def web_entropy(self, config: Any, facts: Any, /) -> float: ...

    def misconceptions(self, config: Any, facts: Any, check: Check, /) -> int:
        """How many wrong facts of a completion come from the web text."""


@overload
def family_of(config: DrawnProblems) -> DrawnFamily: ...
@overload
def family_of(config: Problems) -> Family: ...
def family_of(config: Problems) -> Any:
    """The module that draws, solves and checks this config's problems. Raises ConfigError if it lacks a function."""
    family = family_named(config.family)
    module = importlib.import_module(family.functions)
    needed = (Family, DrawnFamily) if isinstance(config, DrawnProblems) else (Family,)
    names = [name for protocol in needed for name in vars(protocol) if not name.startswith("_")]
    if missing := [name for name in names if not callable(getattr(module, name, None))]:
        raise ConfigError(
            f"the problem family {family.name!r} lacks {', '.join(missing)}; its module {family.functions} defines them"
            " as data.problems.families says."
        )
    return module
