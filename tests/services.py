"""The batch services of the tests' server: OpenAI's files and batches, Anthropic's message batches, as they are told to.

`status` is what batches come to when they are asked for ("in_progress" until then); `answer` maps a request's key and
prompt to what becomes of it: a text, or a kind of trouble. `lose` makes the answer to a creation never arrive.
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
ANTHROPIC_USAGE = {"input_tokens": 11, "output_tokens": 7}


@dataclass
class Services:
    """What was uploaded and created, and how it goes."""

    files: dict[str, bytes] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by batch
    status: str = "in_progress"
    answer: Callable[[str, str], str] = field(default=lambda key, prompt: f"answer to {prompt}")
    lose: bool = False  # the answer to a creation
    cut: int | None = None  # results after which the connection ends
    created: int = 0  # batches, also those whose answer was lost

    # OpenAI

    def upload(self, content_type: str, data: bytes) -> dict[str, Any]:
        head = f"Content-Type: {content_type}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + data)
        parts: dict[Any, Any] = {
            part.get_param("name", header="content-disposition"): part for part in message.iter_parts()
        }
        name = f"file-{len(self.files) + 1}"
        self.files[name] = bytes(parts["file"].get_payload(decode=True))
        self.names[name] = str(parts["file"].get_filename())
        return {"id": name, "object": "file", "bytes": len(self.files[name]), "created_at": int(time.time()),
                "filename": self.names[name], "purpose": "batch", "status": "processed"}  # fmt: skip

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        self.created += 1
        name = f"batch_{self.created}"
        lines = self.files[body["input_file_id"]].splitlines()
        self.requests[name] = [json.loads(line) for line in lines]
        self.batches[name] = {
            "id": name, "object": "batch", "endpoint": body["endpoint"], "input_file_id": body["input_file_id"],
            "completion_window": "24h", "created_at": int(time.time()), "metadata": body.get("metadata"),
        }  # fmt: skip
        return self.openai(name)

    def openai(self, name: str) -> dict[str, Any]:
        """Return a batch of OpenAI's as it stands."""
        ended = self.status not in ("in_progress", "validating", "finalizing", "cancelling")
        lines = self.openai_results(name) if ended and self.status != "failed" else []
        good = [line for line in lines if line["response"] and line["response"]["status_code"] == 200]
        bad = [line for line in lines if line not in good]
        for kind, some in (("output", good), ("error", bad)):
            self.files[f"{kind}-{name}"] = "".join(f"{json.dumps(line)}\n" for line in some).encode()
        counts = {"total": len(self.requests[name]), "completed": len(good), "failed": len(bad)}
        errors = {"object": "list", "data": [{"code": "x", "message": "no such model", "line": None, "param": None}]}
        return self.batches[name] | {
            "status": self.status, "request_counts": counts if ended else {"total": 0, "completed": 0, "failed": 0},
            "output_file_id": f"output-{name}" if good else None, "error_file_id": f"error-{name}" if bad else None,
            "errors": errors if self.status == "failed" else None,
        }  # fmt: skip

    def openai_results(self, name: str) -> list[dict[str, Any]]:
        """Return the results that there are, the last request first."""
        return [line for asked in reversed(self.requests[name]) if (line := self.openai_line(asked)) is not None]

    def openai_line(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        key, body = asked["custom_id"], asked["body"]
        said = self.answer(key, str(body["messages"][-1]["content"]))
        if said == "missing":
            return None
        if said == "expired":
            return {"id": "r", "custom_id": key, "response": None,
                    "error": {"code": "batch_expired", "message": "This request could not be executed in time."}}  # fmt: skip
        if said.startswith("status "):
            error = {"error": {"message": "it broke", "type": "server_error", "code": None, "param": None}}
            response = {"status_code": int(said[7:]), "request_id": "req", "body": error}
            return {"id": "r", "custom_id": key, "response": response, "error": None}
        message = {"role": "assistant", "content": said}
        answer = {"id": "c", "object": "chat.completion", "model": f"{body['model']}-2026", "usage": USAGE,
                  "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}  # fmt: skip
        response = {"status_code": 200, "request_id": "req", "body": answer}
        return {"id": "r", "custom_id": key, "response": response, "error": None}

    # Anthropic

    def create_messages(self, body: dict[str, Any]) -> dict[str, Any]:
        self.created += 1
        name = f"msgbatch_{self.created}"
        self.requests[name] = body["requests"]
        self.batches[name] = {"id": name, "type": "message_batch", "created_at": _iso(), "expires_at": _iso(86_400)}
        return self.anthropic(name)

    def anthropic(self, name: str, base: str = "") -> dict[str, Any]:
        """Return a batch of Anthropic's as it stands."""
        ended = self.status == "ended"
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        if not ended:
            counts["processing"] = len(self.requests[name])
        for line in self.anthropic_results(name) if ended else ():
            counts[line["result"]["type"]] += 1
        return self.batches[name] | {
            "processing_status": "ended" if ended else "in_progress", "request_counts": counts, "archived_at": None,
            "cancel_initiated_at": None, "ended_at": _iso() if ended else None,
            "results_url": f"{base}/v1/messages/batches/{name}/results" if ended else None,
        }  # fmt: skip

    def anthropic_results(self, name: str) -> list[dict[str, Any]]:
        return [line for asked in reversed(self.requests[name]) if (line := self.anthropic_line(asked)) is not None]

    def anthropic_line(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        key, params = asked["custom_id"], asked["params"]
        said = self.answer(key, str(params["messages"][-1]["content"]))
        if said == "missing":
            return None
        if said in ("expired", "canceled"):
            return {"custom_id": key, "result": {"type": said}}
        if said.startswith("status "):
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": "it broke"}}
            return {"custom_id": key, "result": {"type": "errored", "error": error}}
        message = {"id": "m", "type": "message", "role": "assistant", "model": params["model"], "stop_reason": "end_turn",
                   "stop_sequence": None, "content": [{"type": "text", "text": said}], "usage": ANTHROPIC_USAGE}  # fmt: skip
        return {"custom_id": key, "result": {"type": "succeeded", "message": message}}

    # HTTP: (status, value or bytes), None where nobody answers

    def get(self, path: str, base: str) -> tuple[int, Any] | None:
        match path.partition("?")[0].removeprefix("/v1/").split("/"):
            case ["batches"]:
                found = [self.openai(name) for name in reversed(self.batches)]
                return 200, {"object": "list", "data": found, "has_more": False}
            case ["batches", name]:
                return 200, self.openai(name)
            case ["files", name, "content"]:
                return 200, self.files[name]
            case ["messages", "batches"]:
                found = [self.anthropic(name, base) for name in reversed(self.batches)]
                return 200, {"data": found, "has_more": False, "first_id": None, "last_id": None}
            case ["messages", "batches", name]:
                return 200, self.anthropic(name, base)
            case ["messages", "batches", name, "results"]:
                return 200, "".join(f"{json.dumps(line)}\n" for line in self.anthropic_results(name)).encode()
        return 404, {"error": {"message": "no such path"}}

    def post(self, path: str, content_type: str, data: bytes, base: str) -> tuple[int, Any] | None:
        match path.removeprefix("/v1/").split("/"):
            case ["files"]:
                return 200, self.upload(content_type, data)
            case ["batches"]:
                made: Any = self.create(json.loads(data))
            case ["messages", "batches"]:
                made = self.create_messages(json.loads(data))
            case ["batches", name, "cancel"]:
                self.status = "cancelled"
                return 200, self.openai(name)
            case ["messages", "batches", name, "cancel"]:
                self.status = "ended"
                return 200, self.anthropic(name, base)
            case _:
                return 404, {"error": {"message": "no such path"}}
        return None if self.lose else (200, made)


def _iso(later_s: float = 0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + later_s))
