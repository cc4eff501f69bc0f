"""Keeping a reply's row true while it streams: partial commits and the lease.

What came so far is committed after 2 KiB, and once a second by one thread for the whole process, so that the promise
holds while the network or the reader stalls. The same thread renews the leases.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llmsess import crashpoints, owners, texts
from llmsess.db import TROUBLES, database
from llmsess.models import Message, now
from llmsess.providers import Delta
from llmsess.rows import update_owned

FLUSH_S = 1.0  # a partial reply is committed at least this often,
FLUSH_BYTES = 2048  # or after so much of it
FLUSH_SHARE = 8  # or, where it is long, after this fraction of it: rewriting it each 2 KiB would be quadratic


@dataclass(frozen=True)
class Came:
    """What came of a reply, clean, and when: whole and to the first piece (None: it did not come in pieces)."""

    latency_ms: int
    ttft_ms: int | None = None
    first_token_at: datetime | None = None
    text: str = ""
    reasoning: str = ""


class Recorder:
    """One reply while it comes. A commit that fails is tried again with the next; settling the reply reports it."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.pieces: list[str] = []
        self.thoughts: list[str] = []
        self.size = self.flushed = 0
        self.ttft_ms: int | None = None
        self.first_token_at: datetime | None = None
        self.began = self.renewed = time.monotonic()
        self.lock = threading.Lock()
        self.stopped = False

    def start(self) -> None:
        """Begin the keeping."""
        _keeper.add(self)

    def add(self, delta: Delta) -> None:
        """Take a piece in, and commit where 2 KiB have come together."""
        if self.ttft_ms is None:
            self.ttft_ms, self.first_token_at = self.elapsed_ms(), now()
        text, reasoning = texts.clean(delta.text), texts.clean(delta.reasoning)
        with self.lock:
            self.pieces.append(text)
            self.thoughts.append(reasoning)
            self.size += len(text.encode()) + len(reasoning.encode())
        if self.size - self.flushed >= max(FLUSH_BYTES, self.flushed // FLUSH_SHARE):
            self.flush()

    def tick(self) -> None:
        """Commit where something came since, or where the lease wants renewing."""
        if self.size > self.flushed or time.monotonic() - self.renewed >= owners.RENEW_S:
            self.flush()

    def flush(self) -> None:
        """Commit what came so far, with a renewed lease."""
        with self.lock:
            if self.stopped:
                return
            fields: dict[str, Any] = {"lease_expires_at": owners.lease()}
            if self.size:
                fields |= {"status": "streaming", "content": self.text(), "reasoning": self.reasoning() or None}
            try:
                with database.atomic():
                    update_owned(self.message, **fields)
                self.flushed, self.renewed = self.size, time.monotonic()
            except TROUBLES:
                return
        crashpoints.reach("turn.flushed")

    def restart(self) -> None:
        """Count the time from here: the request leaves once more."""
        self.began = time.monotonic()

    def stop(self) -> None:
        """End the keeping; the caller settles."""
        _keeper.remove(self)
        with self.lock:  # a commit of the thread has ended by then
            self.stopped = True

    def text(self) -> str:
        """Return the clean text that came so far."""
        return "".join(self.pieces)

    def reasoning(self) -> str:
        """Return the clean thinking that came so far."""
        return "".join(self.thoughts)

    def elapsed_ms(self) -> int:
        return round((time.monotonic() - self.began) * 1000)

    def came(self) -> Came:
        """Return what has come, as it is settled."""
        return Came(self.elapsed_ms(), self.ttft_ms, self.first_token_at, self.text(), self.reasoning())


class _Keeper:
    """The thread that ticks all replies of the process; it starts with the first and sleeps while there are none."""

    def __init__(self) -> None:
        self.recorders: set[Recorder] = set()
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None

    def add(self, recorder: Recorder) -> None:
        with self.changed:
            self.recorders.add(recorder)
            if self.thread is None or not self.thread.is_alive():  # the first, or the first after a fork
                self.thread = threading.Thread(target=self.run, name="llmsess-recorder", daemon=True)
                self.thread.start()
            self.changed.notify()

    def remove(self, recorder: Recorder) -> None:
        with self.changed:
            self.recorders.discard(recorder)

    def run(self) -> None:
        while True:
            with self.changed:
                while not self.recorders:
                    self.changed.wait()
            time.sleep(FLUSH_S)
            with self.changed:
                current = list(self.recorders)
            for recorder in current:
                recorder.tick()
            if not database.is_closed():  # this thread's connection; the next tick may be on another file
                database.close()


_keeper = _Keeper()


def _begin_anew() -> None:
    """Keep nothing after a fork: the replies are the parent's, whose thread goes on there."""
    global _keeper
    _keeper = _Keeper()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
