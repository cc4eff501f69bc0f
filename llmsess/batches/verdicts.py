"""What becomes of an item after an error: sent again, after how long, or not; failed, unknown, or the end of the run.

fatal       auth, quota, not_found (of a job's own model), no server: every item would meet it; the job stops, the
            item is to do
refused     429, 503, 529, no connection: costs nothing, sent again under both policies
ambiguous   500, 502, 504, an answer cut short, a connection lost, a time-out: perhaps billed, sent again where the
            job says resend; else `unknown` where no answer came, `failed` where one did
final       everything else: `failed`
"""

from __future__ import annotations

from dataclasses import dataclass

from llmsess import retrying
from llmsess.batches.planning import RETRIES
from llmsess.errors import ProviderError
from llmsess.models import BatchJob

LONGEST_PAUSE_S = 60.0  # between two attempts, where no server asks for more
FATAL = ("auth", "quota", "not_found")


@dataclass(frozen=True)
class Verdict:
    """The item's status, in how many seconds it is sent again (None: it is not), and whether the job stops."""

    status: str
    pause_s: float | None = None
    stops: bool = False


def is_lost(error: ProviderError | None) -> bool:
    """Return whether a request may have been taken and billed, and nothing came back."""
    return error is not None and error.billed and error.http_status is None


def verdict(error: ProviderError, job: BatchJob, tries: int, *, stopping: bool) -> Verdict:
    """Return what becomes of an item whose attempt has failed, `tries` further ones before it in this run."""
    refused, resend = retrying.was_refused(error), job.on_unknown == "resend"
    if error.error_kind in FATAL and not (error.error_kind == "not_found" and job.model_id is None):
        return Verdict("todo", stops=True)
    if refused or (error.billed and resend):
        if stopping:
            return Verdict("todo")
        if tries < (RETRIES if job.retries is None else job.retries):
            return Verdict("claimed", max(error.retry_after_s or 0, retrying.full_jitter_s(tries + 1, LONGEST_PAUSE_S)))
    if refused and error.http_status is None:
        return Verdict("todo", stops=True)
    return Verdict("unknown" if is_lost(error) and not resend else "failed")
