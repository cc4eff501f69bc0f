"""A stream as a person sees it: how soon the first piece is shown, and what it costs to keep what comes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.timing import Measured, report
from llmsess import chat, sessions
from llmsess.db import connect, database

PAUSE_S = 0.3  # before the first piece, so that the reader waits for it
FIRST_S = 0.005
TOKENS_PER_S, STREAM_S = 100, 6
OF_A_CORE = 0.02
READER = """
import sys, openai
for event in openai.OpenAI(max_retries=0).chat.completions.create(
    model="m", messages=[{"role": "user", "content": "hi"}], stream=True
):
    sys.stdout.write(event.choices[0].delta.content or "")
    sys.stdout.flush()
"""


class _Handler(BaseHTTPRequestHandler):
    """Sends one piece after a pause, and remembers when."""

    sent_at = 0.0

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        time.sleep(PAUSE_S)
        choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        _Handler.sent_at = time.monotonic()
        self.wfile.write(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())


@contextmanager
def _server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def _shown_after_s(command: list[str], env: dict[str, str]) -> float:
    """Return the seconds from a piece's leaving the server to its coming out of a command."""
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if process.stdout.read(1) != b"x":
            raise RuntimeError("no piece came")
        return time.monotonic() - _Handler.sent_at


def first_piece(folder: Path) -> bool:
    """Measure how long the first piece takes through llmsess, beside a loop over the SDK that stores nothing."""
    with _server() as url:
        env = os.environ | {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none", "LLMSESS_DB": str(folder / "stream.db")}
        ours = [sys.executable, "-m", "llmsess", "chat", "hi", "-m", "openai/m"]
        theirs = [sys.executable, "-c", READER]
        took = [(_shown_after_s(ours, env), _shown_after_s(theirs, env)) for _ in range(12)][1:]
    mine, bare = (statistics.median(times) for times in zip(*took, strict=True))
    report("first piece shown / by a loop over the SDK", Measured(mine, bare), float("inf"))
    return report("first piece shown / 5 ms", Measured(mine, FIRST_S), 1.0)


def keeping(folder: Path) -> bool:
    """Measure what committing a stream costs: the processor time of a stored stream less that of one that is not."""
    script = folder / "stream.json"
    words = " ".join(f"token{i}" for i in range(TOKENS_PER_S * STREAM_S))
    script.write_text(json.dumps([{"match": "stream", "content": words, "chunk_delay_s": 1 / TOKENS_PER_S}]))
    connect(folder / "stream.db")
    session, model = sessions.create("stream", model=f"scripted/{script}"), f"scripted/{script}"

    def spent(stored: bool) -> float:
        began = time.process_time()
        if stored:
            chat.ask(session, "stream", on_delta=lambda delta: None)
        else:
            chat.once("stream", model=model, on_delta=lambda delta: None)
        return time.process_time() - began

    took = [(spent(True), spent(False)) for _ in range(3)]
    database.close()
    more = max(0.0, statistics.median(kept - loose for kept, loose in took))
    return report("keeping 100 tokens/s, of a core / 2 %", Measured(more / STREAM_S, OF_A_CORE), 1.0, "s")
