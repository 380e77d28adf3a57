"""A completion server on loopback that does as a test says: answers by a rule, and fails where it is told to.

Its policy is a rule without params: a completion's ids follow from the prompt and the seed, so a test knows them.
"""

import json
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EOS, VOCABULARY = 2, 16
Fault = Callable[[int], object]  # number of the request, from 0 -> None, or what goes wrong


def completion(prompt: list[int], seed: int, limit: int) -> list[int]:
    """Ids from 3 on, ended by EOS where that comes before the limit."""
    generator = random.Random(f"{prompt} {seed}")
    tokens = [generator.randrange(3, VOCABULARY) for _ in range(generator.randrange(1, 9))]
    return [*tokens, EOS][:limit]


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # connections that wait to be taken up; five, the default, is less than a client opens


class ScriptedServer:
    """A running server: its `url`, and the bodies and headers of the completions it was asked for."""

    def __init__(
        self, model: str, fault: Fault = lambda number: None, *, port: int = 0, max_model_len: int = 512
    ) -> None:
        """fault: a status, "hang", "drop", JSON to send, or a mapping that replaces parts of the answer."""
        self.bodies: list[dict] = []
        self.headers: list[Mapping[str, str]] = []
        self.models = [{"id": model, "owned_by": "scripted", "max_model_len": max_model_len, "root": "/models/other"}]
        self._fault, self._lock, self._closing = fault, threading.Lock(), threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/version":
                    outer.send(self, 200, {"version": "1.2.3"})
                else:
                    outer.send(self, 200 if self.path == "/v1/models" else 404, {"data": outer.models})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.answer(self, body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = _Http(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))

    def __enter__(self) -> "ScriptedServer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, handler: BaseHTTPRequestHandler, body: dict) -> None:
        """One completion, or the fault that the script has for it."""
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.headers.append(dict(handler.headers))
        fault = self._fault(number)
        if fault == "hang":
            self._closing.wait(10.0)
            handler.close_connection = True
        elif fault == "drop":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            handler.close_connection = True
        elif isinstance(fault, str):
            self.send(handler, 200, json.loads(fault))
        elif isinstance(fault, int):
            handler.close_connection = True
            self.send(handler, fault, {"error": {"message": f"scripted {fault}"}})
        else:
            time.sleep(0.002)
            self.send(handler, 200, _choice(body, fault if isinstance(fault, Mapping) else {}))

    @staticmethod
    def send(handler: BaseHTTPRequestHandler, status: int, content: object) -> None:
        """Send JSON."""
        text = json.dumps(content).encode()
        handler.send_response(status)
        if status == 429:
            handler.send_header("Retry-After", "0")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)


def _choice(body: dict, changes: Mapping) -> dict:
    """What vLLM answers, with changes to the choice; None takes a part away."""
    tokens = completion(body["prompt"], body["seed"], body["max_tokens"])
    ended = tokens[-1] == EOS
    choice = {
        "index": 0,
        "text": " ".join(f"w{token}" for token in tokens if token != EOS),
        "finish_reason": "stop" if ended else "length",
        "token_ids": tokens,
        "prompt_token_ids": body["prompt"],
        "logprobs": {"tokens": [f"token_id:{token}" for token in tokens], "token_logprobs": [-0.5] * len(tokens)},
    }
    choice = {key: value for key, value in {**choice, **changes}.items() if value is not None}
    return {"choices": [choice], "usage": {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(tokens)}}


if __name__ == "__main__":  # a policy's name, a port
    with ScriptedServer(sys.argv[1], port=int(sys.argv[2])):
        threading.Event().wait()
