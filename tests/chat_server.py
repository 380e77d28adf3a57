"""A chat server on loopback that speaks OpenAI's protocol strictly, does what it is told to, and counts everything.

In: `answer(body) -> text`, and a script, what to do instead at some of the requests. Out: its URL, and what was asked.
A request that breaks the protocol is answered with 400 and kept in `violations`.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-tests-1234567890abcdef"

Answer = Callable[[Mapping], str]


@dataclass(frozen=True)
class Fault:
    """What the server does instead of a plain answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Mapping | str | None = None  # the body of an error; text is sent as it is
    raw: bytes | None = None  # a body sent as it is, with status 200
    hang_seconds: float = 0.0
    drop: bool = False  # close the connection without an answer
    content: str | None = "as answered"  # of the message; "as answered" is what `answer` says
    finish_reason: str = "stop"
    refusal: str | None = None
    without_usage: bool = False


class ChatServer:
    """Use as a context manager. Safe to read from the test while it serves."""

    def __init__(self, answer: Answer, script: Mapping[int, Fault] | Callable[[Mapping], Fault | None] | None = None):
        """script: number of a request, or its body -> what to do with it."""
        self._answer = answer
        self._script = script if callable(script) else None
        self._numbered = script if isinstance(script, Mapping) else {}
        self.bodies: list[dict] = []  # of all requests, in the order of arrival
        self.answered: list[dict] = []  # of those answered with 200 and sent whole
        self.arrivals: list[float] = []  # seconds
        self.violations: list[str] = []
        self.peak = 0  # requests under way at once
        self.under_way = 0
        self.delay_seconds = 0.0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._serve(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self._http = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> "ChatServer":
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def times_answered(self) -> Counter[str]:
        """How often each request was answered; equal requests for different uses differ in their seed."""
        with self.lock:
            return Counter(json.dumps(body, sort_keys=True) for body in self.answered)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        text = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        wrong = _violation(handler, text)
        body = {} if wrong else json.loads(text)
        with self.lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.arrivals.append(time.monotonic())
            self.under_way += 1
            self.peak = max(self.peak, self.under_way)
        try:
            if wrong:
                self.violations.append(wrong)
                fault = Fault(400, error={"error": {"message": wrong}})
            else:
                fault = (self._script(body) if self._script else self._numbered.get(number)) or Fault()
            time.sleep(self.delay_seconds + fault.hang_seconds)
            self._reply(handler, body, fault)
        except (BrokenPipeError, ConnectionResetError):  # the client is gone
            handler.close_connection = True
        finally:
            with self.lock:
                self.under_way -= 1

    def _reply(self, handler: BaseHTTPRequestHandler, body: Mapping, fault: Fault) -> None:
        if fault.drop:
            handler.close_connection = True
            return
        if fault.status != 200:
            text = fault.error if isinstance(fault.error, str) else json.dumps(fault.error or {})
            _send(handler, fault.status, fault.headers, text.encode())
            return
        if fault.raw is not None:
            _send(handler, 200, {}, fault.raw)
            return
        content = self._answer(body) if fault.content == "as answered" else fault.content
        sent = completion_of(body, content, fault)
        _send(handler, 200, {}, json.dumps(sent).encode())
        with self.lock:
            self.answered.append(dict(body))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # connections that wait to be taken; more are refused


def completion_of(body: Mapping, content: str | None, fault: Fault) -> dict:
    """The protocol's object, as the real servers send it; a word is a token."""
    input_tokens, output_tokens = (len((text or "").split()) for text in (body["messages"][0]["content"], content))
    usage = {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    message = {"role": "assistant", "content": content, "refusal": fault.refusal}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": f"{body['model']}-2026-11-24",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": fault.finish_reason}],
        **({} if fault.without_usage else {"usage": usage}),
    }


def _violation(handler: BaseHTTPRequestHandler, text: bytes) -> str | None:
    """What a request does wrong; None when it keeps to the protocol."""
    if handler.path != "/v1/chat/completions":
        return f"path {handler.path}"
    if not handler.headers.get("content-type", "").startswith("application/json"):
        return f"content-type {handler.headers.get('content-type')}"
    if handler.headers.get("authorization") not in (f"Bearer {KEY}", None):
        return "authorization"
    body = json.loads(text)
    known = {"model", "messages", "temperature", "max_tokens", "max_completion_tokens", "seed", "reasoning_effort"}
    if set(body) - known:
        return f"unknown keys {sorted(set(body) - known)}"
    if not isinstance(body.get("model"), str) or not isinstance(body.get("temperature"), int | float):
        return "model or temperature"
    if not all(set(message) == {"role", "content"} for message in body["messages"]):
        return "messages"
    limits = [body[key] for key in ("max_tokens", "max_completion_tokens") if key in body]
    if len(limits) != 1 or not isinstance(limits[0], int):
        return "one limit of tokens is needed"
    return None


def _send(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
