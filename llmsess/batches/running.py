"""The engine: worker threads that only talk to providers, and one writer that commits what they need and bring.

A round of the writer is two transactions: what has been answered is settled and the next items are claimed; then what
may leave now is written ahead, and leaves. So answers are committed in groups as large as the disk makes them, and
nothing leaves that is not committed. The first Ctrl-C lets what is on its way come back, the second gives it up.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from llmsess import crashpoints, owners
from llmsess.batches import claiming, storing
from llmsess.batches.claiming import Item
from llmsess.batches.forming import Formed, Former
from llmsess.batches.limiting import Held, Need, Purse, need
from llmsess.batches.planning import CONCURRENCY
from llmsess.batches.storing import Answer, Sending, Settled
from llmsess.batches.verdicts import verdict
from llmsess.batches.working import Workers
from llmsess.db import TROUBLES, database
from llmsess.errors import LlmsessError, MissingKey, ProviderError
from llmsess.models import BatchJob

POLL_S = 0.5  # between two looks at what other processes still hold
LONG_WAIT_S = 5.0  # that is worth a word
TICK_S = 5.0  # the longest sleep: limits may have been raised, the job cancelled
CLAIMED_AHEAD = 2  # times as many items as may be on their way are held, so that none waits for a commit
OnItem = Callable[[Settled], object]


@dataclass
class Ready:
    """A claimed item with its request."""

    item: Item
    formed: Formed
    need: Need
    sha256: str
    tries: int = 0  # again, in this run


@dataclass(frozen=True)
class Ended:
    """How a run ended: whether all is settled, why it stopped before (None: it did not), and the error, if one did."""

    reason: str | None
    error: LlmsessError | None
    interrupted: bool
    answered: int


class Run:
    """One process at work on a job."""

    def __init__(
        self, job: BatchJob, on_item: OnItem | None = None, on_interrupt: Callable[[int], object] | None = None,
        on_wait: Callable[[float], object] | None = None,
    ) -> None:  # fmt: skip
        self.job, self.on_item, self.on_interrupt, self.on_wait = job, on_item, on_interrupt, on_wait
        self.raised: BaseException | None = None  # by a callback
        self.told_wait = 0.0  # until when it was told that requests wait
        self.purse = Purse(job.id)
        self.former = Former(job)
        self.ready: deque[Ready] = deque()
        self.waiting: list[tuple[float, int, Ready]] = []  # a heap: from when on an item may be sent again
        self.flying: dict[int, Ready] = {}  # by call
        self.broken: list[tuple[Item, LlmsessError]] = []  # claimed items that make no request
        self.unsent: list[Item] = []  # claimed items for whose model there is no key
        self.workers = Workers()
        self.ticket = itertools.count()
        self.interrupts = self.answered = self.longest = 0
        self.stopped: tuple[str, LlmsessError | None] | None = None  # why nothing more is to leave
        self.held: Held | None = None
        self.idle = False  # nothing was there to claim
        self.parked = False  # items wait for the answer to an equal request
        self.renewed = time.monotonic()

    def go(self) -> Ended:
        """Work until nothing is left, a limit is reached, or somebody stops it."""
        try:
            with self.listening():
                while self.round():
                    pass
        finally:
            self.end()
        if self.raised is not None:
            raise self.raised
        reason, error = self.stopped or (None, None)
        return Ended(reason, error, self.interrupts > 0, self.answered)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM as a wish to stop, in the main thread, where alone they can be taken."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def interrupt(self, *_: Any) -> None:
        """Stop: the first time after what is on its way, the second time now."""
        self.interrupts += 1
        self.stopped = self.stopped or ("interrupted", None)
        self.workers.wake()

    # A round

    def round(self) -> bool:
        """Settle what has come, send what may leave, claim what is next; return whether there is more to do."""
        answers = self.workers.come(self.pause_s())
        if self.interrupts > 1:
            self.stopped = ("interrupted", None)
        elif self.interrupts and self.on_interrupt is not None:
            told, self.on_interrupt = self.on_interrupt, None
            self.call(told, len(self.flying))
        try:
            settled, claimed = self.take_in(answers)
        except TROUBLES as error:
            raise storing.kept_aside(answers, error) from error
        if self.interrupts > 1:
            return False
        for one in self.write_ahead(settled):
            self.workers.send(one, len(self.flying))
        self.tell_wait()
        self.tell(settled)
        self.form(claimed)
        self.idle = not claimed
        if time.monotonic() - self.renewed >= owners.RENEW_S:
            claiming.renew(self.job.id)
            self.renewed = time.monotonic()
            crashpoints.reach("batch.renewed")
        return bool(self.flying) or (not self.stopped and self.more(claimed))

    def pause_s(self) -> float:
        """Return how long the writer may sleep."""
        if self.broken:
            return 0
        full = len(self.flying) >= self.slots()
        if self.stopped or full:
            return TICK_S
        if self.held is not None:
            return min(self.held.seconds or TICK_S, TICK_S)
        if self.ready and not self.parked:
            return 0
        due = self.waiting[0][0] - time.monotonic() if self.waiting else POLL_S
        return max(0.0, min(due, POLL_S if self.idle else 0.0))

    def slots(self) -> int:
        return int(self.purse.row.get("concurrency") or CONCURRENCY)

    def take_in(self, answers: list[Answer]) -> tuple[list[Settled], list[Item]]:
        """Settle answers and what makes no request, and claim the next items, in one transaction."""
        settled: list[Settled] = []
        claimed: list[Item] = []
        with self.transaction() as there:
            if not there:
                return [], []
            settling = storing.Settling(self.purse)
            for answer in answers:
                self.settle(answer, settling)
            settled += settling.write()
            settled += [storing.fail(item, str(error), _kind(error)) for item, error in self.broken]
            if answers:
                crashpoints.reach("batch.settling")
            if not self.stopped:
                claimed = self.claim()
        self.broken = []
        if answers:
            crashpoints.reach("batch.settled")
        if claimed:
            crashpoints.reach("batch.claimed")
        return settled, claimed

    def write_ahead(self, settled: list[Settled]) -> list[Sending]:
        """Write ahead what may leave now, in one transaction, and return it."""
        if self.stopped or not (self.ready or self.waiting) or len(self.flying) >= self.slots():
            return []
        with self.transaction() as there:
            sending = self.admit(settled) if there and not self.stopped else []
        if sending:
            crashpoints.reach("batch.intended")
        return sending

    @contextlib.contextmanager
    def transaction(self) -> Iterator[bool]:
        """Run a block in a write transaction with the job's row as it is now; yields whether there is one still."""
        with database.atomic():
            there = self.purse.read()
            if not there:
                self.stopped = ("the batch was deleted", None)
            elif self.purse.row["status"] == "cancelled":
                self.stopped = self.stopped or ("cancelled", None)
            yield there
            if there:
                self.purse.write()

    def admit(self, settled: list[Settled]) -> list[Sending]:
        """Write ahead what may leave now: what waited for another attempt first, then the next items."""
        sending: list[Sending] = []
        parked: list[Ready] = []
        mine = claiming.claimed(self.job.id) if self.ready or self.waiting else set()
        self.held = None
        leaving: set[str] = set()
        while len(self.flying) < self.slots():
            ready = self.next_ready()
            if ready is None:
                break
            if ready.item.id not in mine:  # cancelled, or taken over while this process was stopped
                storing.close_reply(ready.item)
                continue
            outcome, reply_id = self.equal(ready, leaving)
            if outcome == "sent":
                parked.append(ready)
                continue
            if outcome == "ok":
                settled.append(storing.reuse(self.job, ready.item, ready.formed, reply_id))
                continue
            if not ready.need.bounded and self.longest > ready.need.output_tokens:
                ready.need = need(ready.formed.way, ready.formed.request, self.longest)
            self.held = self.purse.held(ready.need) or self.probing(ready.need)
            if self.held is not None:
                self.ready.appendleft(ready)
                break
            one = storing.send(self.job, ready.item, ready.formed, ready.need, ready.sha256)
            self.purse.reserve(ready.need)
            self.flying[one.call_id] = ready
            leaving.add(ready.sha256)
            sending.append(one)
        if sending:
            storing.mark_sent(sending)
        self.ready.extendleft(reversed(parked))
        self.parked = bool(parked)
        if self.held is not None and self.held.seconds is None and not self.flying:
            self.stopped = (self.held.reason, None)
        return sending

    def equal(self, ready: Ready, leaving: set[str]) -> tuple[str, int]:
        """Return ("ok", the reply) where the cache has the answer, ("sent", 0) while it is on its way, else ("", 0)."""
        if not self.job.use_cache:
            return "", 0
        return ("sent", 0) if ready.sha256 in leaving else storing.answered(ready.formed, ready.sha256) or ("", 0)

    def probing(self, need: Need) -> Held | None:
        """Hold requests back under a budget while one is to show how long an answer is that nothing bounds."""
        unknown = not need.bounded and not self.longest and self.purse.is_bounded
        return Held(TICK_S, "the first answer") if unknown and self.flying else None

    def next_ready(self) -> Ready | None:
        """Return the next item that may be sent, None where none is formed or due."""
        if self.waiting and self.waiting[0][0] <= time.monotonic():
            return heapq.heappop(self.waiting)[2]
        return self.ready.popleft() if self.ready else None

    def claim(self) -> list[Item]:
        """Claim as many items as keep all slots busy."""
        holding = len(self.ready) + len(self.waiting) + len(self.broken)
        room = self.slots() * CLAIMED_AHEAD - holding
        if not self.purse.row["todo"] or room < max(1, self.slots() // 2):
            return []
        return claiming.claim(self.job.id, room)

    def settle(self, answer: Answer, settling: storing.Settling) -> None:
        """Write how an attempt ended: for good, or that the item waits for the next one."""
        ready = self.flying.pop(answer.sending.call_id)
        if answer.reply is not None:
            self.longest = max(self.longest, answer.reply.output_tokens or 0)
            settling.record(answer, "done")
            return
        error = answer.error
        assert error is not None
        found = verdict(error, self.job, ready.tries, stopping=self.stopped is not None)
        if found.stops:
            self.stopped = self.stopped or (error.message, error)
        if error.retry_after_s:
            self.purse.pause(error.retry_after_s)
        if found.pause_s is None:
            settling.record(answer, found.status)
            return
        ready.tries += 1
        storing.refuse(self.job, answer, self.purse)
        crashpoints.reach("batch.refused")
        heapq.heappush(self.waiting, (time.monotonic() + found.pause_s, next(self.ticket), ready))

    # Requests

    def form(self, items: list[Item]) -> None:
        """Make requests of claimed items; what makes none fails in the next round."""
        for item in items:
            try:
                formed = self.former.form(item.row)
            except LlmsessError as error:
                if isinstance(error, MissingKey):
                    self.stopped = self.stopped or (error.message, error)
                    self.unsent.append(item)
                else:
                    self.broken.append((item, error))
                continue
            reserved = need(formed.way, formed.request, self.longest)
            self.ready.append(Ready(item, formed, reserved, formed.sha256()))

    def tell(self, settled: list[Settled]) -> None:
        """Tell what became of items."""
        self.answered += len(settled)
        if self.on_item is not None and settled:
            self.purse.read()
            for one in settled:
                self.call(self.on_item, replace(one, progress=dict(self.purse.row)))

    def tell_wait(self) -> None:
        """Tell once of a long time in which no request may leave."""
        moment, wait = time.monotonic(), (self.held.seconds if self.held else None) or 0
        if self.waiting and not self.ready:
            wait = max(wait, self.waiting[0][0] - moment)
        if self.on_wait is not None and wait >= LONG_WAIT_S and moment > self.told_wait and not self.flying:
            self.told_wait = moment + wait
            self.call(self.on_wait, wait)

    def call(self, callback: Callable[[Any], object], value: Any) -> None:
        """Call a caller's function; where it raises, what is on its way comes back before that goes on."""
        try:
            callback(value)
        except BaseException as error:  # noqa: BLE001  raised at the end
            self.on_item = self.on_interrupt = self.on_wait = None
            self.raised = self.raised or error
            self.stopped = self.stopped or ("a callback raised an error", None)

    # The end

    def more(self, claimed: list[Item]) -> bool:
        """Return whether there is more to do, or others may leave something."""
        if claimed or self.ready or self.waiting or self.broken:
            return True
        self.purse.read()
        if self.purse.row.get("todo"):
            return True
        return claiming.take_over(self.job) > 0 or claiming.is_held(self.job.id, besides=owners.me())

    def end(self) -> None:
        """Let go of what is held: claimed items are free, and the answers of what is on its way are lost."""
        self.workers.close()
        held = [one.item for one in (*self.ready, *(entry[2] for entry in self.waiting), *self.flying.values())]
        held += [*self.unsent, *(item for item, _ in self.broken)]
        lost = list(self.flying.values())
        with contextlib.suppress(*TROUBLES), database.atomic():  # what cannot be written, the next run takes over
            for item in held:
                storing.close_reply(item)
            claiming.lose_sent(self.job, [ready.item for ready in lost])
            claiming.release(held)


def _kind(error: LlmsessError) -> str:
    if isinstance(error, ProviderError):  # of a URL that goes along
        return error.error_kind
    return error.kind if error.kind != "invalid_input" else "input"
