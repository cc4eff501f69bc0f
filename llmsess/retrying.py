"""Sending again what a provider refused: when, how often, after how long.

Only what surely cost nothing is sent again: no connection was made, or the answer was 429, 503 or 529; and never after
a piece of the reply has come. A server that asks to wait is given up to a minute each time, else the pause doubles,
with jitter, so that many clients do not come back at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass

from llmsess.errors import ProviderError
from llmsess.providers import Delta, Reply

RETRIES = 3  # of one request, after the first attempt
LONGEST_WAIT_S = 60.0  # that a server may ask for; a person would rather know
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
REFUSED = (429, 503, 529)


@dataclass(frozen=True)
class Wait:
    """A refused attempt, counted from 1, and how many seconds pass before the next of `attempts`."""

    attempt: int
    attempts: int
    seconds: float
    error: ProviderError


OnWait = Callable[[Wait], None]


def pause_s(error: ProviderError, attempt: int) -> float | None:
    """Return how long to wait after a failed attempt, None where it must not be sent again."""
    if not was_refused(error):
        return None
    if error.retry_after_s:
        return error.retry_after_s if error.retry_after_s <= LONGEST_WAIT_S else None
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (attempt - 1))
    return random.uniform(longest / 2, longest)


def full_jitter_s(attempt: int, longest_s: float) -> float:
    """Return a random pause after a failed attempt, up to one that doubles with each, so that many spread out.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random.uniform(0, min(longest_s, FIRST_PAUSE_S * 2 ** min(attempt, 30)))


def was_refused(error: ProviderError) -> bool:
    """Return whether a request was surely not taken, and may be later: sending it again costs nothing twice."""
    unheard = error.error_kind == "connection" and not error.billed
    return unheard or (error.http_status in REFUSED and error.retryable)


def answers(send: Callable[[int], Iterable[Delta | Reply]], retries: int, refused: OnWait) -> Generator[Delta | Reply]:
    """Yield what `send(attempt)` yields, called again after each refusal, which `refused` is told before the pause."""
    for attempt in range(1, retries + 2):
        came = False
        try:
            for item in send(attempt):
                came = True
                yield item
            return
        except ProviderError as error:
            seconds = None if came or attempt > retries else pause_s(error, attempt)
            if seconds is None:
                raise
            wait = Wait(attempt, retries + 1, seconds, error)
        refused(wait)
        time.sleep(wait.seconds)
