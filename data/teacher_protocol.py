"""OpenAI's chat protocol: the body of a request, and what a response says.

In: a teacher's settings and a prompt; or a response's status, headers and text. Out: the body to send; or the fields of
a `Reply`, or one of two errors: `Passing`, worth another try, and `Refused`, which is not. No message shows a key.
"""

import email.utils
import json
import time
from collections.abc import Mapping

from pydantic import BaseModel, Field, ValidationError

from scaling.teacher_config import NamedTeacher

PASSING_STATUS = frozenset({408, 409, 425, 429})  # and 5xx
NO_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached"})  # come as 429, but waiting does not help
FILTERED = frozenset({"content_filter", "content_policy_violation"})  # come as 400, but concern one prompt only
TEMPLATE_TOKENS = 64  # at most, that a chat template and a vendor's preamble add to a prompt
_SHOWN_CHARACTERS = 200
_SHORTEST_KEY = 8  # shorter ones, such as EMPTY, are no secret and may be words


class TeacherError(RuntimeError):
    """Asking cannot go on; the message says what to do. What was paid for is in the ledger."""


class Passing(RuntimeError):
    """An error that another try may not meet."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Refused(RuntimeError):
    """An error that every try will meet."""


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


def read_response(
    status: int, headers: Mapping[str, str], text: str, settings: NamedTeacher, body: Mapping, key: str | None
) -> dict[str, object]:
    """What a response says, as fields of a Reply; raises Passing or Refused. body: that was sent; key: to leave out."""
    text = _without(text, key)
    if status != 200:
        return _read_error(status, headers, text, settings)
    try:
        completion = _Completion.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise Passing(
            f"a reply that is not of the chat protocol: {place}: {first['msg']} ({_start(text)!r})"
        ) from error
    choice, usage = completion.choices[0], completion.usage
    written = choice.message.content or ""
    input_tokens = usage.prompt_tokens if usage else most_input_tokens(body["messages"][0]["content"])
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


def _read_error(status: int, headers: Mapping[str, str], text: str, settings: NamedTeacher) -> dict[str, object]:
    code, message = _told(text)
    if status == 400 and code in FILTERED:
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
    if status == 401:  # its message may show parts of the key
        raise Refused(f"HTTP 401: the key in the variable {settings.api_key_env} is not accepted")
    if (status in PASSING_STATUS and code not in NO_QUOTA) or status >= 500:
        raise Passing(f"HTTP {status}: {message}", _retry_after(headers))
    raise Refused(f"HTTP {status}: {message}")


def _told(text: str) -> tuple[str | None, str]:
    """The code and the message of an error's body, whatever form it has."""
    try:
        told = json.loads(text)
    except ValueError:
        return None, _start(text) or "no message"
    error = told.get("error", told) if isinstance(told, dict) else told
    if not isinstance(error, dict):
        return None, _start(str(error))
    codes = [value for value in (error.get("code"), error.get("type")) if isinstance(value, str)]
    known = [code for code in codes if code in NO_QUOTA | FILTERED]
    return (known or codes or [None])[0], _start(str(error.get("message") or text))


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait, as a number or a date; 0 where it asks for nothing or cannot be read."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, min(float(value), 1e9))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, IndexError):
        return 0.0


def _without(text: str, key: str | None) -> str:
    return text.replace(key, "[key]") if key and len(key) >= _SHORTEST_KEY else text


def _start(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
