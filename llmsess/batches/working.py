"""The workers: threads that send one attempt after another, and hand over what came. They touch no database."""

from __future__ import annotations

import contextlib
import queue
import threading
import time

from llmsess import crashpoints
from llmsess.batches.storing import Answer, Sending
from llmsess.errors import ProviderError
from llmsess.providers import Reply


class Workers:
    """As many threads as attempts are on their way, and the connections they share."""

    def __init__(self) -> None:
        self.outbox: queue.SimpleQueue[Sending | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self.threads = 0
        self.providers = contextlib.ExitStack()
        self.opened: set[int] = set()

    def send(self, sending: Sending, flying: int) -> None:
        """Hand an attempt over, one of so many on their way."""
        provider = sending.formed.way.provider
        if id(provider) not in self.opened:
            self.opened.add(id(provider))
            self.providers.enter_context(provider.kept_open())
        if self.threads < flying:
            self.threads += 1
            worker = threading.Thread(target=_work, args=(self.outbox, self.answers), name="llmsess-batch", daemon=True)
            worker.start()
        self.outbox.put(sending)

    def come(self, wait_s: float) -> list[Answer]:
        """Return the answers that are there, after so many seconds at most; raises what no provider may raise."""
        found: list[Answer | None] = []
        with contextlib.suppress(queue.Empty):
            found.append(self.answers.get(timeout=wait_s) if wait_s else self.answers.get_nowait())
            while True:
                found.append(self.answers.get_nowait())
        answers = [answer for answer in found if answer is not None]
        for answer in answers:
            if answer.bug is not None:
                raise answer.bug
        return answers

    def wake(self) -> None:
        """End the wait for answers; safe in a signal's handler."""
        self.answers.put(None)

    def close(self) -> None:
        """Let the threads end after what they have, and close the connections."""
        for _ in range(self.threads):
            self.outbox.put(None)
        self.providers.close()


def _work(outbox: queue.SimpleQueue[Sending | None], answers: queue.SimpleQueue[Answer | None]) -> None:
    """Send one attempt after another."""
    while (sending := outbox.get()) is not None:
        answers.put(_send(sending))


def _send(sending: Sending) -> Answer:
    began = time.monotonic()

    def elapsed_ms() -> int:
        return round((time.monotonic() - began) * 1000)

    try:
        reply = None
        for item in sending.formed.way.provider.answer(sending.formed.request):
            if isinstance(item, Reply):
                reply = item
        crashpoints.reach("batch.replied")
        return Answer(sending, elapsed_ms(), reply)
    except ProviderError as error:
        return Answer(sending, elapsed_ms(), error=error)
    except BaseException as bug:  # noqa: BLE001  the writer raises it
        return Answer(sending, elapsed_ms(), bug=bug)
