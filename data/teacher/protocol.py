"""OpenAI's chat protocol: the body of a request, and what a response says.

In: a teacher's settings and a prompt; or a response. Out: the body to send; or the fields of a `Reply`, or one of the
two errors of data.http_requests: `Passing`, worth another try, and `Refused`, which is not.
"""

from pydantic import BaseModel, Field, ValidationError

from data.http_requests import Passing, Response, failure_of, start_of, told
from scaling.config.teacher import NamedTeacher

FILTERED = frozenset({"content_filter", "content_policy_violation"})  # come as 400, but concern one prompt only
TEMPLATE_TOKENS = 64  # at most, that a chat template and a vendor's preamble add to a prompt


class TeacherError(RuntimeError):
    """Asking cannot go on; the message says what to do. What was paid for is in the ledger."""


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class _Completion(BaseModel):
    model: str | None = None
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def body_of(settings: NamedTeacher, prompt: str, seed: int) -> dict[str, object]:
    """The body of a request."""
    return {
        "model": settings.model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": settings.temperature,
        settings.max_tokens_key: settings.max_tokens,
        **({"seed": seed} if settings.send_seed else {}),
        **settings.request,
    }


def most_input_tokens(prompt: str) -> int:
    """More tokens than a prompt can have: a token of any vocabulary is at least one byte."""
    return len(prompt.encode()) + TEMPLATE_TOKENS


def cost_usd(settings: NamedTeacher, input_tokens: int, output_tokens: int) -> float | None:
    """The price of so many tokens; None without prices."""
    if settings.usd_per_million_input_tokens is None or settings.usd_per_million_output_tokens is None:
        return None
    cost = settings.usd_per_million_input_tokens * input_tokens + settings.usd_per_million_output_tokens * output_tokens
    return cost / 1e6


def read_response(response: Response, settings: NamedTeacher, prompt: str) -> dict[str, object]:
    """What a response to a prompt says, as fields of a Reply; raises Passing or Refused."""
    if response.status != 200:
        return _filtered(response, settings)
    try:
        completion = _Completion.model_validate_json(response.text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise Passing(
            f"{response.url} answers what is not of the chat protocol: {place}: {first['msg']}"
            f" ({start_of(response.text)!r})."
        ) from error
    choice, usage = completion.choices[0], completion.usage
    written = choice.message.content or ""
    input_tokens = usage.prompt_tokens if usage else most_input_tokens(prompt)
    output_tokens = usage.completion_tokens if usage else min(len(written.encode()) + 1, settings.max_tokens)
    return {
        "model": completion.model or settings.model,
        "finish_reason": choice.finish_reason or "unknown",
        "content": choice.message.content,
        "refusal": choice.message.refusal,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "tokens_are_estimated": usage is None,
        "cost_usd": cost_usd(settings, input_tokens, output_tokens),
    }


def _filtered(response: Response, settings: NamedTeacher) -> dict[str, object]:
    """The reply to a prompt that a vendor's filter keeps from the model; any other failure is raised."""
    codes, message = told(response.text)
    if response.status != 400 or not codes & FILTERED:
        raise failure_of(response)
    return {
        "model": settings.model,
        "finish_reason": "content_filter",
        "content": None,
        "refusal": message,
        "input_tokens": 0,
        "output_tokens": 0,
        "tokens_are_estimated": False,
        "cost_usd": cost_usd(settings, 0, 0),
    }
