"""The teacher: the section on who writes the synthetic problems and solutions, and at what cost.

In: plain mappings. Out: the frozen settings that `data.teacher.synthetic` reads, in two parts: what changes the
problems, which is part of the stage's identity, and how they are asked for (endpoints, prices, limits, budget), which
is not. Without `model` and `teachers` the family's own procedure is the teacher.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from scaling.config.section import Count, NonNegative, Positive, Text, parse
from scaling.config.server import Server
from scaling.paths import from_current

Words = Annotated[int, Field(ge=2)]
# Set by other keys of the section, or would change the form of the reply.
OWN_KEYS = frozenset({"model", "messages", "temperature", "seed", "max_tokens", "max_completion_tokens", "n", "stream"})
# The keys of a chat model that change its output; so do a teacher's name and share.
WRITING = ("temperature", "max_tokens", "request")


class ChatModel(Server):
    """How a model is asked: an OpenAI-compatible chat endpoint, its limits and its prices."""

    endpoint: str = "https://api.openai.com/v1"
    api_key_env: Text | None = "OPENAI_API_KEY"
    temperature: NonNegative = 1.0  # Xwin's (arXiv 2403.04706)
    max_tokens: Count = 2048  # of a reply
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # its name in the request
    request: Mapping[str, object] = {}  # more keys of the request's body, such as reasoning_effort
    send_seed: bool = True  # a new integer with each request, so that no cache returns the same reply twice
    usd_per_million_input_tokens: NonNegative | None = None
    usd_per_million_output_tokens: NonNegative | None = None
    max_concurrency: Count = 8
    timeout_seconds: Positive = 120.0
    max_tries: Count = 6

    @field_validator("request")
    @classmethod
    def _nothing_of_its_own(cls, value: Mapping[str, object]) -> Mapping[str, object]:
        taken = sorted(OWN_KEYS & set(value))
        if taken:
            raise ValueError(f"sets {taken[0]!r}, which another key sets or which must not change; leave it out.")
        return value

    @model_validator(mode="after")
    def _both_prices(self) -> "ChatModel":
        if (self.usd_per_million_input_tokens is None) != (self.usd_per_million_output_tokens is None):
            raise ValueError(
                "only one of the two prices is set; state usd_per_million_input_tokens and _output_tokens."
            )
        return self

    @property
    def has_prices(self) -> bool:
        return self.usd_per_million_input_tokens is not None

    def __hash__(self) -> int:  # its mappings have no hash
        return hash(self.model_dump_json())


class NamedTeacher(ChatModel):
    """One of several teachers, under its name."""

    model: Text
    share: Positive = 1.0  # of the problems, relative to the other teachers' shares


class Teacher(ChatModel):
    """The source of synthetic problems and solutions."""

    keep_unverified: bool = False  # keep a solution whose answer does not verify
    model: Text | None = None  # the one teacher; null, without teachers: the family's own procedure
    teachers: Mapping[Text, NamedTeacher] = {}  # several, by name
    verify: Literal["agreement", "reference"] = "agreement"
    num_solutions: Annotated[int, Field(ge=2)] = 2  # that must agree, with verify: agreement
    near_duplicate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7  # dropped from this Jaccard index of word triples
    ngram: Words = 10  # dropped from this number of consecutive words shared with a held-out problem
    max_rejected_in_a_row: Count = 32
    budget_usd: Positive | None = None  # of everything in the ledger
    budget_tokens: Count | None = None
    ledger: Text = "results/ledger"  # folder of paid replies; on a file system

    @model_validator(mode="after")
    def _one_way_to_name_them(self) -> "Teacher":
        if not self.teachers:
            return self
        if self.model is not None:
            raise ValueError("has model and teachers; name one teacher by model, or several in teachers.")
        misplaced = sorted(self.model_fields_set & set(ChatModel.model_fields))
        if misplaced:
            raise ValueError(f"has teachers, so {misplaced[0]} belongs in each of them; move it there.")
        return self

    @model_validator(mode="after")
    def _budget_has_prices(self) -> "Teacher":
        unpriced = [name for name, teacher in self.named.items() if not teacher.has_prices]
        if self.budget_usd is not None and unpriced:
            raise ValueError(
                f"budget_usd is {self.budget_usd:g}, but {unpriced[0]} has no prices; state"
                " usd_per_million_input_tokens and usd_per_million_output_tokens, or use budget_tokens."
            )
        return self

    @property
    def named(self) -> dict[str, NamedTeacher]:
        """The teachers by name; a single one has its model's. Empty: the family's own procedure teaches."""
        if self.model is None:
            return dict(self.teachers)
        settings = {key: getattr(self, key) for key in ChatModel.model_fields}
        return {self.model: NamedTeacher(model=self.model, **settings)}

    @property
    def requests_per_attempt(self) -> int:
        """Requests for a problem that is kept: one to write it, the others to solve it."""
        return 1 + (1 if self.keep_unverified or self.verify == "reference" else self.num_solutions)


def what_is_written(teacher: Teacher) -> dict[str, object]:
    """The part that changes the problems: a stage's config."""
    if not teacher.named:
        return {"keep_unverified": teacher.keep_unverified}
    plain = teacher.model_dump(mode="json", include={"keep_unverified", "verify", "near_duplicate", "ngram"})
    if teacher.verify == "agreement":
        plain["num_solutions"] = teacher.num_solutions
    kept = {"model", "share", *WRITING}
    return plain | {
        "teachers": {name: one.model_dump(mode="json", include=kept) for name, one in teacher.named.items()}
    }


def how_it_is_asked(teacher: Teacher) -> dict[str, object]:
    """The other part, which changes no problem; it names environment variables, never their values."""
    if not teacher.named:
        return {}
    settings = set(ChatModel.model_fields) - set(WRITING)
    plain = teacher.model_dump(mode="json", include={"max_rejected_in_a_row", "budget_usd", "budget_tokens"})
    asked = {name: one.model_dump(mode="json", include=settings) for name, one in teacher.named.items()}
    ledger = from_current(teacher.ledger)
    return plain | {"ledger": str(ledger), "teachers": asked}


def joined(written: Mapping[str, Any], asked: Mapping[str, Any]) -> Teacher:
    """The teacher from both parts, as a stage reads it; a key that neither of them states cannot be read."""
    asked_of = asked.get("teachers", {})
    teachers = {name: {**one, **asked_of.get(name, {})} for name, one in written.get("teachers", {}).items()}
    found = parse(Teacher, {**written, **asked, "model": None, "teachers": teachers})  # a stage knows all by name
    return found.model_copy(update={"teachers": {name: parse(NamedTeacher, one) for name, one in teachers.items()}})
