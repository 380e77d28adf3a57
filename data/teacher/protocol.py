"""OpenAI's chat protocol: the body of a request, and what a response says.

In: a teacher's settings and a prompt; or a response. Out: the body to send; or the fields of a `Reply`, or one of the
two errors of data.http_requests: `Passing`, worth another try, and `Refused`, which is not.
"""

from typing import Any

from pydantic import BaseModel, ValidationError

from data.http_requests import Passing, Response, error_in, failure_of, json_of, start_of
from scaling.config.teacher import NamedTeacher

FILTERED = frozenset({"content_filter", "content_policy_violation"})  # sent as 400, but about one prompt only
TEMPLATE_TOKENS = 64  # a chat template and a vendor's preamble add at most this many to a prompt


class TeacherError(RuntimeError):
    """No more requests can be sent; the message says what to do. What was paid for is in the ledger."""


class _Message(BaseModel):
    content: Any = None  # text, or a list of parts
    refusal: Any = None


class _Choice(BaseModel):
    message: _Message | None = None
    finish_reason: Any = None


class _Completion(BaseModel):
    """The parts of a reply that are read, loosely typed: a reply that was paid for is not rejected for its form."""

    model: Any = None
    choices: list[_Choice] = []
    usage: Any = None


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
    """The price of these tokens; None without prices."""
    if settings.usd_per_million_input_tokens is None or settings.usd_per_million_output_tokens is None:
        return None
    cost = settings.usd_per_million_input_tokens * input_tokens + settings.usd_per_million_output_tokens * output_tokens
    return cost / 1e6


def read_response(response: Response, settings: NamedTeacher, prompt: str) -> dict[str, Any]:
    """What a response to a prompt says, as fields of a Reply; raises Passing or Refused."""
    if response.status != 200:
        return _filtered(response, settings)
    try:
        completion = _Completion.model_validate(json_of(response))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise Passing(
            f"{response.url} does not answer in the chat protocol: {place}: {first['msg']}"
            f" ({start_of(response.text)!r})."
        ) from error
    choice = completion.choices[0] if completion.choices else _Choice()
    message = choice.message or _Message()
    counted_input, counted_output = _counted_tokens(completion.usage, bool(_text_of(message.content)))
    if not completion.choices and not counted_output:
        raise Passing(f"{response.url} answers without choices ({start_of(response.text)!r}).")
    input_tokens = most_input_tokens(prompt) if counted_input is None else counted_input
    output_tokens = settings.max_tokens if counted_output is None else counted_output  # hidden reasoning may count too
    return {
        "model": completion.model if isinstance(completion.model, str) and completion.model else settings.model,
        "finish_reason": choice.finish_reason if isinstance(choice.finish_reason, str) else "unknown",
        "content": _text_of(message.content),
        "refusal": _text_of(message.refusal),
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "tokens_are_estimated": counted_input is None or counted_output is None,
        "cost_usd": cost_usd(settings, input_tokens, output_tokens),
    }


def _counted_tokens(usage: Any, has_text: bool) -> tuple[int | None, int | None]:
    """Tokens of the prompt and of the reply as a server counts them; None where it does not, or cannot be right.

    Some vendors leave hidden reasoning out of completion_tokens, but not out of the total.
    """
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion, total = (_count(counts, key) for key in ("prompt_tokens", "completion_tokens", "total_tokens"))
    details = counts.get("completion_tokens_details")
    places = [counts, details if isinstance(details, dict) else {}]
    reasoning = max(_count(place, "reasoning_tokens") or 0 for place in places)
    if prompt is None and total is not None and completion is not None and total > completion and not reasoning:
        prompt = total - completion
    if prompt is not None and total is not None and total >= prompt:
        completion = max(completion or 0, total - prompt)
    if completion is not None and reasoning > completion:
        completion += reasoning
    return prompt or None, None if completion == 0 and has_text else completion


def _count(counts: dict[str, Any], key: str) -> int | None:
    """A whole number of tokens, 0 or more; None for anything else."""
    value = counts.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return int(value) if 0 <= value < 2**53 and value == value // 1 else None


def _text_of(value: Any) -> str | None:
    """The text of a message, which some servers send in parts."""
    if value is None or isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [value]
    texts = [part if isinstance(part, str) else part.get("text") for part in parts if isinstance(part, str | dict)]
    return "".join(text for text in texts if isinstance(text, str)) or None


def _filtered(response: Response, settings: NamedTeacher) -> dict[str, Any]:
    """The reply to a prompt that a vendor's filter keeps from the model; any other failure is raised."""
    codes, message = error_in(response.text)
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
