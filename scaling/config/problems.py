"""The settings of the problem families, with their defaults: the section `problems` of a sweep file.

In: plain mappings. Out: the frozen config that a family's functions in `data.problems` take. Those of sets in plain
language are in `scaling.config.text_problems`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from scaling.config.section import LATER, Count, Fraction, NonNegative, Positive, Section, Seed, parse_with
from scaling.config.text_problems import Gsm8k, Jsonl, Math


class ModularSum(Section):
    """Sums modulo a number, step by step; the facts are the sums of two numbers."""

    family: Literal["modular_sum"] = "modular_sum"
    modulus: Annotated[int, Field(ge=5, le=997)] = 59
    operands: Annotated[int, Field(ge=2, le=12)] = 4
    zipf_exponent: NonNegative = 1.0  # weight of the operand with rank r is r^-zipf_exponent
    flaw_rate: Fraction = 0.0  # share of teacher solutions with a pair of cancelling wrong steps
    flaws: Annotated[Literal["random", "systematic"], LATER] = "random"  # systematic: always the same wrong sums
    web_confidence: Annotated[tuple[Positive, Positive], Field(strict=False)] = (1.0, 1.0)  # Beta law of c_ab
    num_validation: Count = 512
    num_test: Count = 1024
    held_out_seed: Annotated[Seed | None, LATER] = None  # see data.sets.splits; null: the law of earlier sweeps

    @model_validator(mode="after")
    def _operands_are_distinct(self) -> "ModularSum":
        if self.operands > self.modulus:
            raise ValueError(
                f"operands is {self.operands}, but a modulus of {self.modulus} has only {self.modulus} different"
                " operands; lower operands or raise modulus."
            )
        return self


class StarGraph(Section):
    """Path finding in a star (Bachmann and Nagarajan 2024, arXiv 2403.06963)."""

    family: Literal["star_graph"] = "star_graph"
    degree: Annotated[int, Field(ge=2, le=20)] = 2
    path_length: Annotated[int, Field(ge=2, le=20)] = 5  # nodes of an arm, the centre included
    num_nodes: Annotated[int, Field(ge=4, le=1000)] = 30  # labels to draw from
    flaw_rate: Fraction = 0.0  # share of teacher solutions that take the wrong arm; verification drops them
    num_validation: Count = 512
    num_test: Count = 1024
    held_out_seed: Annotated[Seed | None, LATER] = None  # see data.sets.splits; null: the law of earlier sweeps

    @model_validator(mode="after")
    def _labels_suffice(self) -> "StarGraph":
        needed = 1 + self.degree * (self.path_length - 1)
        if self.num_nodes < needed:
            raise ValueError(f"num_nodes is {self.num_nodes}, but the star has {needed} nodes; raise num_nodes.")
        return self


Problems = Annotated[ModularSum | StarGraph | Gsm8k | Math | Jsonl, Field(discriminator="family")]
DrawnProblems = Annotated[ModularSum | StarGraph, Field(discriminator="family")]  # from a law, not rows of a set
ProblemsInLanguage = Annotated[Gsm8k | Math | Jsonl, Field(discriminator="family")]  # rows of a set
_PROBLEMS: TypeAdapter[Problems] = TypeAdapter(Problems)
_DRAWN: TypeAdapter[DrawnProblems] = TypeAdapter(DrawnProblems)
_IN_LANGUAGE: TypeAdapter[ProblemsInLanguage] = TypeAdapter(ProblemsInLanguage)


def problems_of(config: Mapping[str, Any]) -> Problems:
    """The problems of a stage's plain config, as `parse` reads a section."""
    return parse_with(_PROBLEMS, config["problems"])


def drawn_problems_of(config: Mapping[str, Any]) -> DrawnProblems:
    """The same of a stage that only families with a law of their own have."""
    return parse_with(_DRAWN, config["problems"])


def problems_in_language_of(config: Mapping[str, Any]) -> ProblemsInLanguage:
    """The same of a stage that only sets in plain language have."""
    return parse_with(_IN_LANGUAGE, config["problems"])
