"""How fast and how much a job may send: requests and tokens a minute, pauses that a server asks for, and budgets.

All of it is in the job's row, read and written inside the transaction that commits a request before it leaves, so that
every process on the job keeps to the same limits. A limit of N a minute is one of N in any 60 seconds: N less a small
burst (2 seconds' worth) is spread evenly. Tokens and cost are reserved for a request by what it can be at most, and
settled by what it was; what is unknown keeps its reservation. spent + reserved <= budget at every commit, as far as
reservations are bounds: exact input and `max_tokens` are, an estimate and a model without a limit are not.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from llmsess import contexts, prices
from llmsess.db import database
from llmsess.models import NANO
from llmsess.prices import Usage
from llmsess.providers import Request
from llmsess.routing import Route

BURST_S = 2  # of a limit's worth that may leave at once
SURE = 1.5  # an estimate of input is reserved so many times: prose has four bytes a token, other scripts fewer
OVERHEAD_TOKENS = 8  # of a request and of each of its messages, for its roles and marks
OUTPUT_TOKENS = 1_024  # reserved for an answer where nobody says how long it can be, until longer ones came
SECOND, MINUTE = 1_000_000, 60_000_000  # microseconds
LONGEST_WAIT = 2 * MINUTE  # of a rate: a moment farther off was written before the clock jumped back
LONGEST_PAUSE_S = 3_600  # that a server may ask for
Clock = Callable[[], float]  # seconds of the epoch


@dataclass(frozen=True)
class Need:
    """What a request can come to at most: tokens, and nano-USD (None: no price is known)."""

    input_tokens: int
    output_tokens: int
    cost: int | None
    bounded: bool = True  # whether the answer cannot have more

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def need(way: Route, request: Request, longest: int = 0, share: float = 1) -> Need:
    """Return what a request is reserved; `longest` is the most output tokens that an answer of the job had.

    `share` is the part of the model's price that it costs.
    """
    given = input_tokens(way, request)
    most = way.provider.most_output_tokens(request)
    taken = max(OUTPUT_TOKENS, longest) if most is None else most
    price = prices.price(way.model, Usage(given, output_tokens=taken), share=share)
    return Need(given, taken, price.cost, most is not None)


def input_tokens(way: Route, request: Request) -> int:
    """Return how many tokens a request has: counted, else surely not more than."""
    counted = way.provider.count_tokens(request)
    if counted is not None:
        return counted
    asked = (f"{request.parameters[name]}" for name in ("tools", "response_format") if name in request.parameters)
    estimate = contexts.estimate(request.system, request.turns) + sum(len(text) // 4 for text in asked)
    return round(estimate * SURE) + OVERHEAD_TOKENS * (1 + len(request.turns))


@dataclass(frozen=True)
class Held:
    """Why a request may not leave now: in so many seconds it may, or (None) a budget is used up."""

    seconds: float | None
    reason: str = ""


_ROW = ("status", "rpm", "tpm", "concurrency", "budget", "budget_tokens", "budget_requests", "allow_unpriced",
        "calls", "spent_cost", "reserved_cost", "spent_tokens", "reserved_tokens", "unpriced", "requests_free_at",
        "tokens_free_at", "paused_until", "total_items", "todo", "claimed", "sent", "done", "failed", "unknown",
        "cancelled", "skipped")  # fmt: skip
_KEPT = ("calls", "spent_cost", "reserved_cost", "spent_tokens", "reserved_tokens", "unpriced", "requests_free_at",
         "tokens_free_at", "paused_until")  # fmt: skip
_READ = f"SELECT {', '.join(_ROW)} FROM batch_jobs WHERE id = ?"
_WRITE = f"UPDATE batch_jobs SET {', '.join(f'{name} = ?' for name in _KEPT)} WHERE id = ?"


@dataclass
class Purse:
    """A job's limits and counts inside one transaction: `read()` them, reserve and settle, `write()` them."""

    job_id: int
    clock: Clock = time.time
    row: dict[str, Any] = field(default_factory=dict)
    before: tuple[Any, ...] = ()

    def read(self) -> bool:
        """Read the row; return whether there is one still."""
        found = database.execute_sql(_READ, (self.job_id,)).fetchone()
        self.row = dict(zip(_ROW, found or (), strict=bool(found)))
        self.before = tuple(self.row.get(name) for name in _KEPT)
        return found is not None

    def write(self) -> None:
        """Write what has changed."""
        values = tuple(self.row[name] for name in _KEPT)
        if values != self.before:
            database.execute_sql(_WRITE, (*values, self.job_id))
            self.before = values

    def now(self) -> int:
        return round(self.clock() * SECOND)

    # Before a request leaves

    def held(self, need: Need) -> Held | None:
        """Return why a request may not leave now, None where it may."""
        return self.over_budget(need) or self.too_soon()

    def over_budget(self, need: Need) -> Held | None:
        row = self.row
        if row["budget_requests"] is not None and row["calls"] + 1 > row["budget_requests"]:
            noun = "request" if row["budget_requests"] == 1 else "requests"
            return Held(None, f"the budget of {row['budget_requests']:,} {noun} is used up")
        used = row["spent_tokens"] + row["reserved_tokens"]
        if row["budget_tokens"] is not None and used + need.tokens > row["budget_tokens"]:
            return Held(None, f"the budget of {row['budget_tokens']:,} tokens has no room for {need.tokens:,} more")
        if row["budget"] is None:
            return None
        if need.cost is None and not row["allow_unpriced"]:
            return Held(None, "a model has no price")
        held = row["spent_cost"] + row["reserved_cost"]
        if held + (need.cost or 0) > row["budget"] or held >= row["budget"]:
            more = f"for ${need.cost / NANO:g} more" if need.cost else "left"
            return Held(None, f"the budget of ${row['budget'] / NANO:g} has no room {more}")
        return None

    @property
    def is_bounded(self) -> bool:
        """Return whether there is a budget that a long answer could exceed."""
        return self.row["budget"] is not None or self.row["budget_tokens"] is not None

    def too_soon(self) -> Held | None:
        """Return for how long a rate or a server's wish holds a request back."""
        now = self.now()
        waits = [self._pause(now), self._wait("requests_free_at", self.row["rpm"], now)]
        longest = max(*waits, self._wait("tokens_free_at", self.row["tpm"], now))
        return Held(longest / SECOND, "rate") if longest > 0 else None

    def _pause(self, now: int) -> int:
        until = self.row["paused_until"]
        return until - now if until is not None and until - now <= LONGEST_PAUSE_S * SECOND else 0

    def _wait(self, name: str, limit: int | None, now: int) -> int:
        """Return how many microseconds a rate has to be waited for."""
        free_at = self.row[name]
        if limit is None or free_at is None or free_at - now > LONGEST_WAIT:
            return 0
        spacing, burst = rate(limit)
        return int(free_at - now - burst * spacing)

    def reserve(self, need: Need, *, paced: bool = True) -> None:
        """Reserve what a request can come to, and count it; one of a batch service does not count as sent now."""
        row = self.row
        row["calls"] += 1
        row["reserved_tokens"] += need.tokens
        row["reserved_cost"] += need.cost or 0
        if not paced:
            return
        self._take("requests_free_at", row["rpm"], 1)
        self._take("tokens_free_at", row["tpm"], min(need.tokens, row["tpm"] or 0))

    def _take(self, name: str, limit: int | None, count: int) -> None:
        if limit is not None:
            now, free_at = self.now(), self.row[name] or 0
            base = now if free_at < now or free_at - now > LONGEST_WAIT else free_at
            self.row[name] = base + round(count * rate(limit)[0])

    # After it

    def release(self, reserved: Need) -> None:
        """Take a reservation back: nothing was billed, or what was is settled."""
        self.row["reserved_tokens"] -= reserved.tokens
        self.row["reserved_cost"] -= reserved.cost or 0

    def settle(self, reserved: Need, usage: Usage, cost: int | None) -> None:
        """Replace a reservation by what an answer came to; of a figure that is unknown the reservation stays."""
        row = self.row
        if cost is None:
            row["unpriced"] += 1
        else:
            row["reserved_cost"] -= reserved.cost or 0
            row["spent_cost"] += cost
        if usage.input_tokens is None or usage.output_tokens is None:
            return
        tokens = usage.input_tokens + usage.output_tokens
        row["reserved_tokens"] -= reserved.tokens
        row["spent_tokens"] += tokens
        if row["tpm"] is not None and row["tokens_free_at"] is not None:
            change = min(tokens, row["tpm"]) - min(reserved.tokens, row["tpm"])
            row["tokens_free_at"] += round(change * rate(row["tpm"])[0])

    def pause(self, seconds: float) -> None:
        """Let no request of the job leave for so long, as a server has asked."""
        until = self.now() + round(min(seconds, LONGEST_PAUSE_S) * SECOND)
        self.row["paused_until"] = max(self.row["paused_until"] or 0, until)


@contextlib.contextmanager
def open_purse(job_id: int) -> Iterator[Purse]:
    """Run a block in a write transaction with a job's purse, read before it and written after it."""
    purse = Purse(job_id)
    with database.atomic():
        purse.read()
        yield purse
        purse.write()


def rate(limit: int) -> tuple[float, int]:
    """Return the spacing of a limit a minute in microseconds, and how many may leave before their time."""
    burst = limit * BURST_S // 60
    return MINUTE / (limit - burst), burst
