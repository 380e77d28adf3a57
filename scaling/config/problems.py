"""The problem families: the record of each, and the settings of those whose problems are drawn from a law.

In: plain mappings. Out: the frozen config that a family's functions take, and `families()`, from which the section
`problems` of a sweep file follows. The settings of sets in plain language are in `scaling.config.text_problems`. A
module from outside the repository registers its own families (docs/plugins.md).
"""

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, model_validator

from scaling.config.section import LATER, Count, Fraction, NonNegative, Positive, Section, Seed, parse_with
from scaling.config.text_problems import Gsm8k, Jsonl, Math, TextProblems
from scaling.registry import Registry, stamped


class DrawnProblems(Section):
    """The settings that all families share whose problems are drawn from a law."""

    family: str
    num_validation: Count = 512
    num_test: Count = 1024
    held_out_seed: Annotated[Seed | None, LATER] = None  # see data.sets.splits; null: the law of earlier sweeps


class ModularSum(DrawnProblems):
    """Sums modulo a number, step by step; the facts are the sums of two numbers."""

    family: Literal["modular_sum"] = "modular_sum"
    modulus: Annotated[int, Field(ge=5, le=997)] = 59
    operands: Annotated[int, Field(ge=2, le=12)] = 4
    zipf_exponent: NonNegative = 1.0  # weight of the operand with rank r is r^-zipf_exponent
    flaw_rate: Fraction = 0.0  # share of teacher solutions with a pair of cancelling wrong steps
    flaws: Annotated[Literal["random", "systematic"], LATER] = "random"  # systematic: always the same wrong sums
    web_confidence: Annotated[tuple[Positive, Positive], Field(strict=False)] = (1.0, 1.0)  # Beta law of c_ab

    @model_validator(mode="after")
    def _operands_are_distinct(self) -> "ModularSum":
        if self.operands > self.modulus:
            raise ValueError(
                f"operands is {self.operands}, but a modulus of {self.modulus} has only {self.modulus} different"
                " operands; lower operands or raise modulus."
            )
        return self


class StarGraph(DrawnProblems):
    """Path finding in a star (Bachmann and Nagarajan 2024, arXiv 2403.06963)."""

    family: Literal["star_graph"] = "star_graph"
    degree: Annotated[int, Field(ge=2, le=20)] = 2
    path_length: Annotated[int, Field(ge=2, le=20)] = 5  # nodes of an arm, the centre included
    num_nodes: Annotated[int, Field(ge=4, le=1000)] = 30  # labels to draw from
    flaw_rate: Fraction = 0.0  # share of teacher solutions that take the wrong arm; verification drops them

    @model_validator(mode="after")
    def _labels_suffice(self) -> "StarGraph":
        needed = 1 + self.degree * (self.path_length - 1)
        if self.num_nodes < needed:
            raise ValueError(f"num_nodes is {self.num_nodes}, but the star has {needed} nodes; raise num_nodes.")
        return self


class Ledger(DrawnProblems):
    """Sums of what people have, modulo a number and in words; some of the sums do not help with the question."""

    family: Literal["ledger"] = "ledger"
    modulus: Annotated[int, Field(ge=5, le=97)] = 59
    names: Annotated[int, Field(ge=4, le=40)] = 24  # that people are given
    known: Annotated[int, Field(ge=2, le=12)] = 6  # people whose number is in the prompt
    # Terms of each sum that the answer needs, the one asked for first; each of the others is a term of the one before.
    needed: Annotated[tuple[Annotated[int, Field(ge=2, le=7)], ...], Field(strict=False, min_length=1)] = (5, 4)
    unneeded: Annotated[tuple[Annotated[int, Field(ge=2, le=7)], ...], Field(strict=False)] = (4, 2)  # of the others
    flaw_rate: Fraction = 0.0  # share of teacher solutions with a pair of cancelling wrong steps
    flaws: Literal["random", "systematic"] = "random"  # systematic: always the same wrong sums
    unneeded_rate: Fraction = 0.0  # share of teacher solutions with right steps that the answer does not need
    web_confidence: Annotated[tuple[Positive, Positive], Field(strict=False)] = (3.0, 1.0)  # Beta law of c_ab
    web_unneeded: Fraction = 0.25  # chance that web text works out a sum that the answer does not need

    @model_validator(mode="after")
    def _sums_have_their_terms(self) -> "Ledger":
        others = [*(terms - 1 for terms in self.needed[:-1]), self.needed[-1], *self.unneeded]
        if max(others) > self.known:
            raise ValueError(
                f"known is {self.known}, but a sum of needed = {list(self.needed)} and unneeded = {list(self.unneeded)}"
                f" adds the numbers of {max(others)} people; raise known."
            )
        people = self.known + len(self.needed) + len(self.unneeded)
        if self.names < people:
            raise ValueError(f"names is {self.names}, but a problem has {people} people; raise names.")
        return self

    @model_validator(mode="after")
    def _flaws_have_steps(self) -> "Ledger":
        if self.flaw_rate > 0.0 and self.needed == (2,):
            raise ValueError(
                f"flaw_rate is {self.flaw_rate}, but with needed = [2] a solution has one sum and nothing to cancel a"
                " wrong one; use more terms or flaw_rate: 0."
            )
        if self.unneeded_rate > 0.0 and not self.unneeded:
            raise ValueError(
                f"unneeded_rate is {self.unneeded_rate}, but unneeded is empty, so no step is unneeded; name sums in"
                " unneeded or leave unneeded_rate out."
            )
        return self


ProblemsInLanguage = Annotated[Gsm8k | Math | Jsonl, Field(discriminator="family")]  # rows of a set
Problems = DrawnProblems | ProblemsInLanguage
_IN_LANGUAGE: TypeAdapter[ProblemsInLanguage] = TypeAdapter(ProblemsInLanguage)


@dataclass(frozen=True)
class ProblemFamily:
    """A kind of problems: its settings, and the module that makes, solves and checks them."""

    settings: type[DrawnProblems] | type[TextProblems]  # name the family: `family: Literal["NAME"] = "NAME"`
    functions: str  # the module with the functions of data.problems.families; in a plug-in, __name__
    ceiling: str = ""  # the module whose function `ceiling` states the largest multiplier possible; empty: unknown
    source: str = ""  # digest of the module that registered it; part of its stages' identity. Empty: this project's

    @property
    def name(self) -> str:
        return str(self.settings.model_fields["family"].default)


_REGISTRY = Registry(
    "problem family",
    (
        ProblemFamily(ModularSum, "data.problems.modular_sum", "data.problems.fact_count"),
        ProblemFamily(StarGraph, "data.problems.star_graph"),
        ProblemFamily(Ledger, "data.problems.ledger", "data.problems.ledger_count"),
        ProblemFamily(Gsm8k, "data.problems.text_problems"),
        ProblemFamily(Math, "data.problems.text_problems"),
        ProblemFamily(Jsonl, "data.problems.text_problems"),
    ),
    "A family from outside this project is known once its module is imported: --import FILE, or imports: [FILE] in the"
    " sweep file.",
)
family_named, families = _REGISTRY.of, _REGISTRY.every


def register_family(family: ProblemFamily) -> ProblemFamily:
    """Register a family from outside. Raises ValueError if its name is taken, or its settings are unsuitable."""
    if not issubclass(family.settings, DrawnProblems):
        raise ValueError(
            f"the settings {family.settings.__name__} are not DrawnProblems (scaling.config.problems); for problems"
            " that are rows of a set, use the family jsonl."
        )
    if get_args(family.settings.model_fields["family"].annotation) != (family.name,):
        raise ValueError(
            f'{family.settings.__name__} does not name its family; write family: Literal["NAME"] = "NAME" in it.'
        )
    return _REGISTRY.register(stamped(family))


def settings_of(known: tuple[ProblemFamily, ...]) -> Any:
    """The type of a section `problems`, of one of these families."""
    return Annotated[
        functools.reduce(operator.or_, (family.settings for family in known)), Field(discriminator="family")
    ]


def problems_of(config: Mapping[str, Any]) -> Problems:
    """The problems of a stage's plain config, as `parse` reads a section."""
    found: Problems = parse_with(_reader(families()), config["problems"])
    return found


def drawn_problems_of(config: Mapping[str, Any]) -> DrawnProblems:
    """The same for a stage that exists only for families with a law."""
    drawn = tuple(family for family in families() if issubclass(family.settings, DrawnProblems))
    found: DrawnProblems = parse_with(_reader(drawn), config["problems"])
    return found


def problems_in_language_of(config: Mapping[str, Any]) -> ProblemsInLanguage:
    """The same for a stage that exists only for sets in plain language."""
    return parse_with(_IN_LANGUAGE, config["problems"])


def family_source(config: Mapping[str, Any]) -> str:
    """The digest of the plug-in that registered the family in a stage's plain config; empty if none did."""
    problems = config.get("problems")
    return family_named(problems["family"]).source if isinstance(problems, Mapping) and "family" in problems else ""


@functools.cache
def _reader(known: tuple[ProblemFamily, ...]) -> TypeAdapter[Any]:
    return TypeAdapter(settings_of(known))
