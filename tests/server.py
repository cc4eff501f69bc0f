"""A real HTTP server on loopback that speaks OpenAI's chat completions, and misbehaves as the model's name asks.

Models: echo (answers with the last prompt); usage-last-chunk, usage-with-choices, no-usage, no-done; slow (a word each
0.2 s), hang (two words, then nothing), reset (two words, then the connection is reset), early (two words, then the end);
429-seconds, 429-date, 429-ms, 500, 529, 401, 404, context; not-json, truncated-json, no-choices, error-event; tools,
reasoning, reasoning-openrouter, cost; refuse-stream (answers plain JSON whatever is asked).
"""

from __future__ import annotations

import email.utils
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 4},
         "completion_tokens_details": {"reasoning_tokens": 2}}  # fmt: skip
FAILURES: dict[str, tuple[int, dict[str, str], str]] = {
    "429-seconds": (429, {"Retry-After": "7"}, "slow down"),
    "429-ms": (429, {"Retry-After-Ms": "1500"}, "slow down"),
    "429-date": (429, {"Retry-After": "DATE"}, "slow down"),
    "500": (500, {}, "it broke"),
    "529": (529, {}, "overloaded"),
    "401": (401, {}, "wrong key"),
    "404": (404, {}, "no such model"),
}
WORDS = ["Light ", "scatters ", "in ", "the ", "air."]


class Answer(NamedTuple):
    """What a test wants the server to say."""

    kind: str
    data: bytes
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012  never changed


class ChatServer(ThreadingHTTPServer):
    """Use it as a context manager; `requests` records the bodies that came in."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []
        self.answers: dict[str, Answer] = {}  # of models that a test makes up; AUTH in it is the key that came
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> ChatServer:
        self.thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Readers that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        if "models" in self.server.answers:
            kind, data, status, headers = self.server.answers["models"]
            self.raw(status, data.replace(b"AUTH", self.headers["Authorization"].encode()), kind, headers)
            return
        models = [{"id": name, "object": "model", "created": 1, "owned_by": "test"} for name in ("small", "large")]
        self.answer(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body | {"_key": self.headers.get("Authorization")})
        model = body["model"]
        if model in self.server.answers:
            kind, data, status, headers = self.server.answers[model]
            key = self.headers["Authorization"]
            headers = {name: value.replace("AUTH", key) for name, value in headers.items()}
            self.raw(status, data.replace(b"AUTH", key.encode()), kind, headers)
        elif model in FAILURES:
            status, headers, message = FAILURES[model]
            if headers.get("Retry-After") == "DATE":
                headers = {"Retry-After": email.utils.formatdate(time.time() + 30, usegmt=True)}
            self.answer(status, {"error": {"message": message, "type": "x"}}, headers)
        elif model == "context":
            self.answer(400, {"error": {"message": "too long", "code": "context_length_exceeded"}})
        elif model == "not-json":
            self.raw(200, b"<html>gateway</html>", "application/json")
        elif model == "truncated-json":
            self.raw(200, b'{"choices": [{"message": {"con', "application/json")
        elif model == "no-choices":
            self.answer(200, {"id": "x", "model": model, "choices": []})
        elif body.get("stream") and model != "refuse-stream":
            self.stream(model, body)
        else:
            self.answer(200, self.completion(model, body))

    def answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self.raw(status, json.dumps(value).encode(), "application/json", headers)

    def raw(self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("x-request-id", "req-1")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def said(self, body: dict[str, Any]) -> list[str]:
        if body["model"] == "echo":
            return [str(body["messages"][-1]["content"])]
        if body["model"] == "long":
            return [f"word{i} " for i in range(2000)]
        return WORDS

    def completion(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.said(body))}
        if model == "tools":
            message = {"role": "assistant", "content": None, "tool_calls": [_call()]}
        if model == "reasoning":
            message["reasoning_content"] = "Think first."
        if model == "reasoning-openrouter":
            message["reasoning"] = "Think first."
        usage = USAGE | ({"cost": 0.00125} if model == "cost" else {})
        done = {
            "id": "x",
            "model": f"{model}-2026",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
        return done if model == "no-usage" else done | {"usage": usage}

    def stream(self, model: str, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("x-request-id", "req-1")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if model in ("reasoning", "reasoning-openrouter"):
            self.event(model, {"reasoning_content" if model == "reasoning" else "reasoning": "Think first."})
        if model == "tools":
            self.call_in_pieces(model)
            return
        for i, word in enumerate(self.said(body)):
            if i == 2 and model in ("hang", "reset", "early", "error-event"):
                self.break_off(model)
                return
            self.event(model, {"content": word})
            if model == "slow":
                time.sleep(0.2)
        self.end(model)

    def event(self, model: str, delta: dict[str, Any], finish: str | None = None, **more: Any) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self.data({"id": "x", "model": f"{model}-2026", "choices": [choice]} | more)

    def data(self, value: Any) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        self.wfile.write(f"data: {text}\n\n".encode())
        self.wfile.flush()

    def call_in_pieces(self, model: str) -> None:
        call = _call()
        arguments = call["function"]["arguments"]
        self.event(model, {"tool_calls": [{"index": 0} | call | {"function": {"name": "weather", "arguments": ""}}]})
        for piece in (arguments[:5], arguments[5:]):
            self.event(model, {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        self.event(model, {}, "tool_calls")
        self.data("[DONE]")

    def break_off(self, model: str) -> None:
        if model == "hang":
            time.sleep(30)
        if model == "error-event":
            self.data({"error": {"message": "the engine died"}})
        if model == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def end(self, model: str) -> None:
        if model == "usage-with-choices":
            self.event(model, {}, "stop", usage=USAGE)
        else:
            self.event(model, {}, None if model == "no-finish" else "stop")
        if model == "cost":
            self.data({"id": "x", "choices": [], "usage": USAGE | {"cost": 0.00125}})
        elif model not in ("no-usage", "usage-with-choices", "no-done"):
            self.data({"id": "x", "choices": [], "usage": USAGE})
        if model != "no-done":
            self.data("[DONE]")


def _call() -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
