"""Translate requests and answers of a completion server: OpenAI's /v1/completions, in token ids.

In: a prompt's ids with its seed and settings. Out: the body of the request; and from the server's answer an `Answer`,
the same tokens that this project's sampler would record: up to the first stop token, or as many as the limit.

vLLM, and SGLang where it follows it, answer `return_token_ids` with ids, older ones `return_tokens_as_token_ids`. Other
servers answer with text alone: it is encoded again, marked as such, and compared with the number of tokens that they
count. Everything that changes the distribution is sent, so that no default of the server or of the checkpoint applies.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from data.tokens.tokenizer import AnyTokenizer

_TOKEN_ID = re.compile(r"token_id:(\d+)")


class ServerError(RuntimeError):
    """A server's answer cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Wanted:
    """One requested completion."""

    prompt: tuple[int, ...]
    limit: int  # most new tokens
    seed: int
    temperature: float  # 0 is greedy
    top_p: float
    stop_tokens: tuple[int, ...]

    def body(self, model: str) -> dict[str, object]:
        """The request's JSON."""
        return {
            "model": model,
            "prompt": list(self.prompt),
            "max_tokens": self.limit,
            "seed": self.seed,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": 0,  # all
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop_token_ids": list(self.stop_tokens),
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "logprobs": 1,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }


@dataclass(frozen=True)
class Answer:
    """One completion."""

    tokens: list[int]  # its stop token included, if the policy wrote one
    logp: float | None  # of the completion, if the server gives it
    from_text: bool = False  # the server gave no ids: encoded from its text
    round_trip: bool = True  # False if the policy certainly wrote other ids

    as_json = asdict


def read_answer(wanted: Wanted, response: Any, tokenizer: AnyTokenizer) -> Answer:
    """The completion in a server's answer; raises ServerError on anything else."""
    match response:
        case {"choices": [{"finish_reason": "stop" | "length" as finish, "text": str(text)} as choice]}:
            pass
        case {"choices": [{"finish_reason": finish}]} if finish not in ("stop", "length"):
            raise ServerError(
                f"a completion ended with finish_reason {finish!r}; expected 'stop' or 'length'. The server broke it"
                " off: see its log."
            )
        case _:
            raise ServerError(f"an answer is {str(response)[:200]!r}; expected one choice with text and finish_reason.")
    usage = response.get("usage") or {}
    _check_prompt(wanted, choice, usage)
    ids = _stated_ids(choice)
    if ids is None:
        return _from_text(wanted, text, finish, usage, tokenizer)
    # A sampler that stops at a stop token would have written the same ones up to it.
    end = next((place for place, token in enumerate(ids, start=1) if token in wanted.stop_tokens), len(ids))
    tokens = ids[:end]
    _check_tokens(wanted, tokens, finish, tokenizer.vocab_size)
    logps = (choice.get("logprobs") or {}).get("token_logprobs")
    if isinstance(logps, list) and len(logps) == len(ids) and all(map(_is_finite, logps)):
        return Answer(tokens, float(sum(logps[: len(tokens)])))
    return Answer(tokens, None)


def _check_prompt(wanted: Wanted, choice: Mapping[str, Any], usage: Mapping[str, Any]) -> None:
    echoed = choice.get("prompt_token_ids")
    if echoed is not None and tuple(echoed) != wanted.prompt:
        raise ServerError(
            f"the server completed a prompt of {len(echoed)} tokens, not the one of {len(wanted.prompt)} that it was"
            " sent; it must take prompts as token ids, neither cut nor added to."
        )
    count = usage.get("prompt_tokens")
    if echoed is None and count is not None and count != len(wanted.prompt):
        raise ServerError(
            f"the server counts {count} tokens in a prompt of {len(wanted.prompt)}; it must take prompts as token ids,"
            " neither cut nor added to."
        )


def _is_finite(logp: object) -> bool:
    """Whether a server's log-probability is valid: for a sampled token, -inf and null are not."""
    return isinstance(logp, int | float) and math.isfinite(logp)


def _stated_ids(choice: Mapping[str, Any]) -> list[int] | None:
    ids = choice.get("token_ids")
    if ids is not None:
        return list(ids)
    tokens = (choice.get("logprobs") or {}).get("tokens") or []
    found = [match for token in tokens if (match := _TOKEN_ID.fullmatch(str(token)))]
    return [int(match[1]) for match in found] if found and len(found) == len(tokens) else None


def _check_tokens(wanted: Wanted, tokens: list[int], finish: str, vocab_size: int) -> None:
    stopped = bool(tokens) and tokens[-1] in wanted.stop_tokens
    if len(tokens) > wanted.limit:
        raise ServerError(f"a completion has {len(tokens)} tokens; at most {wanted.limit} were asked for (max_tokens).")
    if any(not 0 <= token < vocab_size for token in tokens):
        raise ServerError(
            f"a completion has token {max(tokens)}, outside the policy's vocabulary of {vocab_size}; the server serves"
            " another model."
        )
    if finish == "stop" and not stopped:
        raise ServerError(
            f"a completion ended by itself at token {tokens[-1:]}, which is not one of the policy's stop tokens"
            f" {list(wanted.stop_tokens)}; the server has another model's stop tokens, or leaves them out of its ids."
        )
    if finish == "length" and not stopped and len(tokens) < wanted.limit:
        raise ServerError(
            f"a completion was cut at {len(tokens)} tokens where {wanted.limit} were asked for, after a prompt of"
            f" {len(wanted.prompt)}; the server's context is too short: give it at least"
            f" {len(wanted.prompt) + wanted.limit} tokens (vLLM: --max-model-len)."
        )


def _from_text(wanted: Wanted, text: str, finish: str, usage: Mapping[str, Any], tokenizer: AnyTokenizer) -> Answer:
    """The probable ids of a text; a stop token is added if the server says that the policy wrote one."""
    ids = tokenizer.encode(text)
    tokens = ids + ([wanted.stop_tokens[0]] if finish == "stop" else [])
    count = usage.get("completion_tokens")
    round_trip = (
        tokenizer.decode(ids) == text and count in (None, len(tokens), len(ids)) and len(tokens) <= wanted.limit
    )
    if finish == "length" and count is not None and count < wanted.limit:
        _check_tokens(wanted, tokens[:count], finish, tokenizer.vocab_size)
    return Answer(tokens[: wanted.limit], None, from_text=True, round_trip=round_trip)
