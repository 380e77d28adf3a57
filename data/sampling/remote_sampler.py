"""Completions from a server that serves the policy, as data.sampling.sampler gives them to stages.

In: a stage's inputs, its tokenizer, the settings of `sampler`, and the stage's working directory. Out: `Sampled`, as
this project's sampler returns it; a journal of answers, from which a killed stage continues; and provenance.json with
the server's host, model and version. With `export`, the policy is first written where the server can load it, and
`<name>.wanted` beside it is touched for as long as it is needed (scaling.serve starts servers by it).

A row's seed follows from its key, so from (seed, use, problem, sample, ...). The server's noise differs from ours:
a row sampled here has other tokens, but the same tokens at temperature 0, except for near-ties.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import jax
import numpy as np

from data.sampling.completion_server import CompletionServer, Served, host_of
from data.sampling.export import export_policy, policy_name
from data.sampling.journal import Journal
from data.sampling.server_answers import Answer, ServerError, Wanted, read_answer
from data.tokens.tokenizer import AnyTokenizer
from scaling.config.sampling import TOUCH_SECONDS, WANTED_SUFFIX, Sampler
from scaling.model.policy import load_shape
from scaling.model.sampling import PAD, Sampled, stop_tokens
from scaling.model.sizes import ModelConfig
from scaling.stage import PROVENANCE_FILE, canonical_json

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 15.0


class RemoteSampler:
    """A server that samples one policy."""

    def __init__(self, settings: Sampler, inputs: Mapping[str, Path], out: Path, tokenizer: AnyTokenizer) -> None:
        self.shape: ModelConfig = load_shape(inputs["policy"])
        self._settings, self._out, self._tokenizer = settings, out, tokenizer
        self._name = policy_name(inputs)
        self._export = Path(settings.folder).absolute() / self._name
        if settings.export:
            export_policy(inputs, tokenizer, self._export.parent, self._name)
        self._counts = dict.fromkeys(("num_server_rows", "num_rows_from_text", "num_rows_not_round_tripped"), 0)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        keys: jax.Array,
        max_new_tokens: Sequence[int],
        temperature: float,
        top_p: float = 1.0,
    ) -> Sampled:
        """One completion a row; those of an earlier attempt of this stage are not requested again."""
        wanted = [
            Wanted(tuple(map(int, prompt)), int(limit), seed, float(temperature), float(top_p), stop_tokens(self.shape))
            for prompt, limit, seed in zip(prompts, max_new_tokens, seeds_of(keys), strict=True)
        ]
        requests = [self._digest(row) for row in wanted]
        with contextlib.closing(Journal(self._out)) as journal:
            missing = {name: row for name, row in zip(requests, wanted, strict=True) if name not in journal.answers}
            if len(missing) < len(requests):
                logger.info("%d of %d completions were answered before.", len(requests) - len(missing), len(requests))
            if missing:
                asyncio.run(self._ask_all(missing, journal))
            answers = [Answer(**journal.answers[name]) for name in requests]
            described = {"sampler": {"policy": self._name, "servers": journal.servers}}
            (self._out / PROVENANCE_FILE).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        self._count(answers)
        return _as_sampled(answers, max(max_new_tokens, default=0))

    def numbers(self) -> dict[str, float]:
        """The numbers of the record on the rows that a server completed."""
        return {name: float(count) for name, count in self._counts.items()}

    async def _ask_all(self, missing: dict[str, Wanted], journal: Journal) -> None:
        rows = iter(missing.items())
        async with CompletionServer(self._settings) as server:
            tasks = [asyncio.create_task(self._stay_wanted())] if self._settings.export else []
            try:
                needed = max(len(row.prompt) + row.limit for row in missing.values())
                name = self._name if self._settings.export else str(self._settings.model)
                served = await server.served(name, self._settings.export, self._hint(needed))
                self._check_context(served, needed)
                journal.add_server(served.described)
                progress = _Progress(host_of(self._settings.endpoint), len(missing))
                askers = [
                    asyncio.create_task(self._ask(rows, served.name, server, journal, progress))
                    for _ in range(min(self._settings.max_concurrency, len(missing)))
                ]
                tasks += askers
                await asyncio.gather(*askers)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(
        self,
        rows: Iterator[tuple[str, Wanted]],
        model: str,
        server: CompletionServer,
        journal: Journal,
        progress: "_Progress",
    ) -> None:
        """Request one row after another until none is left."""
        for name, row in rows:
            response = await server.complete(row.body(model))
            journal.add(name, read_answer(row, response, self._tokenizer).as_json())
            progress.note()

    async def _stay_wanted(self) -> None:
        mark = self._export.with_name(self._name + WANTED_SUFFIX)
        while True:
            mark.touch()
            await asyncio.sleep(TOUCH_SECONDS)

    def _digest(self, row: Wanted) -> str:
        """Digest of everything that decides a row's answer."""
        identity = {"policy": self._name, **vars(row)}
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:24]

    def _hint(self, needed: int) -> str:
        if not self._settings.export:
            return (
                f"Start a server that lists sampler.model, {self._settings.model!r}, with a context of {needed} tokens."
            )
        command = serve_command(self._export, self._settings.model or self._name, self._settings)
        return f"Start it, with a context of at least {needed} tokens: {command}"

    def _check_context(self, served: Served, needed: int) -> None:
        if served.max_model_len is not None and served.max_model_len < needed:
            raise ServerError(
                f"{served.name} at {host_of(self._settings.endpoint)} has a context of {served.max_model_len} tokens,"
                f" but the longest prompt and its completion need {needed}; start the server with a longer one (vLLM:"
                f" --max-model-len {needed})."
            )

    def _count(self, answers: list[Answer]) -> None:
        self._counts["num_server_rows"] += len(answers)
        from_text = sum(answer.from_text for answer in answers)
        lost = sum(not answer.round_trip for answer in answers)
        self._counts["num_rows_from_text"] += from_text
        self._counts["num_rows_not_round_tripped"] += lost
        if from_text:
            logger.warning(
                "%d of %d completions came as text without token ids and were encoded again; %d of them surely have"
                " other tokens than the policy wrote. Better is a server that answers return_token_ids.",
                from_text, len(answers), lost,
            )  # fmt: skip


def seeds_of(keys: jax.Array) -> list[int]:
    """A seed for each typed key, 1 to 2^31 - 1: no server treats it as missing, and all can hold it."""
    data = np.asarray(jax.random.key_data(keys)).astype("<u4")
    return [1 + int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:8], "big") % (2**31 - 1) for row in data]


def serve_command(folder: Path, name: str, settings: Sampler) -> str:
    """How vLLM serves an export for these settings."""
    port = urlsplit(settings.endpoint).port
    return f"vllm serve {folder} --served-model-name {name} --generation-config vllm" + (
        f" --port {port}" if port else ""
    )


def _as_sampled(answers: list[Answer], width: int) -> Sampled:
    tokens = np.full((len(answers), width), PAD, np.int32)
    for row, answer in enumerate(answers):
        tokens[row, : len(answer.tokens)] = answer.tokens
    lengths = np.array([len(answer.tokens) for answer in answers], np.int32)
    logps = [answer.logp for answer in answers]
    return Sampled(tokens, lengths, None if None in logps else np.array(logps, np.float32))


class _Progress:
    """Log one line now and then."""

    def __init__(self, host: str, total: int) -> None:
        self._host, self._total, self._done = host, total, 0
        self._start = self._last = time.monotonic()

    def note(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS or self._done == self._total:
            self._last = now
            rate = self._done / max(now - self._start, 1e-9)
            logger.info("%d of %d completions from %s, %.1f a second.", self._done, self._total, self._host, rate)
