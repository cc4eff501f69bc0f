"""How batches are shown: status, items, an estimate, and a run with its progress."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from llmsess import batches
from llmsess.batches import Estimate, Imported, Item, RunReport, Settled, Status
from llmsess.cli import output
from llmsess.cli.options import confirmed
from llmsess.cli.output import Layout, Row, counted, money, number, style
from llmsess.errors import SomeFailed
from llmsess.models import BatchJob, BatchShard, usd
from llmsess.prices import BATCH_SHARE
from llmsess.texts import one_line

FAILURES_SHOWN = 5
REDRAWN_S = 0.1
JOBS = Layout(
    {"name": "name", "status": "status", "total": "items", "done": "done", "failed": "failed", "left": "left",
     "calls": "calls", "cost": "cost"},
    "name", ("calls", "left"),
)  # fmt: skip
ITEMS = Layout(
    {"key": "item", "status": "status", "tries": "tries", "cost": "cost", "input": "input", "answer": "answer"},
    "answer", ("cost", "tries"),
)  # fmt: skip
IMPORTED = ("requests", "answered", "failed", "known", "unmatched", "bad")
KEY_CHARACTERS, INPUT_CHARACTERS, LONG = 20, 40, 1000
HASH_CHARACTERS, SHORT_ID = 32, 8


def status_json(state: Status) -> Row:
    """Return a status as the object that `batch status --json` has."""
    return {
        "id": state.id, "name": state.name, "status": state.status, "total": state.total, **state.counts,
        "calls": state.calls, "cost_usd": output.cost_usd(state.cost, state.unpriced),
        "budget_usd": None if state.budget is None else output.cost_usd(state.budget, 0),
        "reserved_usd": output.cost_usd(state.reserved, 0), "unpriced": state.unpriced, "tokens": state.tokens,
        "error": state.error,
    }  # fmt: skip


def _status_line(row: Row) -> Row:
    """Return a status as people read it."""
    states = " · ".join(f"{row[state]:,} {state}" for state in batches.STATES if row[state])
    spent = "" if row["cost_usd"] is None else f"${row['cost_usd']}"
    if row["unpriced"]:
        spent = f"{'≥' if spent else ''}{spent or 'unpriced'} ({counted(row['unpriced'], 'answer')} without a price)"
    budget = f"{spent or '$0'} of ${row['budget_usd']}" if row["budget_usd"] else spent
    held = f", ${row['reserved_usd']} reserved" if row["reserved_usd"] not in (None, "0") else ""
    return {
        "name": row["name"], "status": row["status"], "items": f"{row['total']:,}: {states or 'none'}",
        "requests": number(row["calls"]), "cost": budget + held, "tokens": number(row["tokens"]), "why": row["error"],
    }  # fmt: skip


def show_status(state: Status, format: str | None) -> None:
    """Show where a batch is, and what to do about what is left."""
    output.show_fields(status_json(state), format, _status_line)
    if format in (None, "table", "plain"):
        for line in _advice(state):
            output.notice(line)


def _advice(state: Status) -> list[str]:
    name = f'"{state.name}"' if " " in state.name else state.name
    lines = []
    if any(shard.status != "fetched" for shard in batches.shards(state.id)):
        lines.append(f"At the provider's batch service: llmsess batch fetch {name}")
    if state.counts["failed"]:
        lines.append(f"Failed: llmsess batch show {name} --status failed; again: llmsess batch retry {name}")
    if state.counts["unknown"]:
        lines.append(f"Unknown (sent, the answer lost): llmsess batch resolve {name} --resend, or --skip")
    if state.counts["todo"] and state.status != "running":
        lines.append(f"Go on with: llmsess batch run {name}")
    return lines


def show_jobs(states: Sequence[Status], format: str | None) -> None:
    """Show a list of batches."""

    def line(row: Row) -> Row:
        left = row["total"] - row["done"] - row["failed"] - row["cancelled"] - row["skipped"]
        cost = "" if row["cost_usd"] is None else f"${row['cost_usd']}"
        return row | {"left": left, "cost": f"≥{cost}" if cost and row["unpriced"] else cost}

    output.show_rows([status_json(state) for state in states], format, JOBS, line)


# Items


def _item_line(row: Row) -> Row:
    failed = f"{row['error_kind']}: {row['error']}" if row["error"] else ""
    return {
        "key": short_key(row["key"]), "status": row["status"], "tries": row["attempts"] or "",
        "cost": f"${row['cost_usd']}" if row["cost_usd"] else "unpriced" if row["content"] is not None else "",
        "input": one_line(_said(row["input"]), INPUT_CHARACTERS),
        "answer": one_line(failed or row["content"] or "", LONG),
    }  # fmt: skip


def short_key(key: str) -> str:
    """Return a key as a table shows it; of a hash the beginning is enough to name it."""
    is_hash = len(key) >= HASH_CHARACTERS and all(digit in "0123456789abcdef#" for digit in key)
    short = key[:SHORT_ID] + key[HASH_CHARACTERS:] if is_hash else key
    return one_line(short, KEY_CHARACTERS if output.is_terminal() else len(short))


def _said(row: dict[str, Any]) -> str:
    """Return what a row says, in short."""
    body = row.get("body") or row.get("params") or row
    messages = body.get("messages")
    if isinstance(messages, list) and messages:
        content = messages[-1].get("content")
        parts = (
            [block.get("text") or f"[{block.get('type')}]" for block in content if isinstance(block, dict)]
            if isinstance(content, list)
            else [content]
        )
        return " ".join(str(part) for part in parts if part)
    return str(row.get("prompt") or " · ".join(f"{value}" for value in row.values()))


def show_items(state: Status, items: Sequence[Item], format: str | None) -> None:
    """Show items of a batch."""
    rows = [batches.record(item) for item in items]
    if format == "json":
        output.show_json(status_json(state) | {"items": rows})
    else:
        output.show_rows(rows, format, ITEMS, _item_line)


def show_item(item: Item, format: str | None) -> None:
    """Show one item, with its whole answer."""
    if format is not None:
        output.show_fields(batches.record(item), format)
        return
    output.show_fields({name: value for name, value in batches.record(item).items() if name != "content"}, None)
    if item.content is not None:
        output.out()
        output.show_text(item.content)


# Files


def errors_file(file: str) -> str:
    """Return where the errors of an output file go, beside it."""
    base = file.removesuffix(".gz").removesuffix(".jsonl")
    return f"{base}.errors.jsonl{'.gz' if file.endswith('.gz') else ''}"


def may_overwrite(files: Sequence[str | None], *, yes: bool) -> bool:
    """Return whether files that are there may be written over."""
    there = [file for file in files if file and os.path.isfile(file)]
    return not there or confirmed(f"overwrite {' and '.join(there)}", yes=yes, dry_run=False)


def show_imported(found: Imported, *, as_json: bool) -> None:
    """Show what came of files of results; raises SomeFailed where some could not be read or matched."""
    counts = {name: getattr(found, name) for name in IMPORTED}
    if as_json:
        output.show_json({"batch": status_json(batches.status_of(found.job)), **counts, "problems": found.problems})
    else:
        output.notice(", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing new")
        for problem in found.problems:
            output.notice(problem, fg="yellow")
    if found.bad or found.unmatched:
        bad = f"{counted(found.bad, 'line')} could not be read" if found.bad else ""
        lone = f"{counted(found.unmatched, 'result')} of no item" if found.unmatched else ""
        raise SomeFailed(", ".join(filter(None, (bad, lone))))


# Before and while


def show_estimate(estimate: Estimate, format: str | None) -> None:
    """Show what a run would send, and about what it costs."""
    low, high = (output.cost_usd(nano, 0) for nano in (estimate.low, estimate.high))
    row = {
        "items": estimate.items, "input_tokens": estimate.input_tokens, "output_tokens": estimate.output_tokens,
        "cost_usd_low": low, "cost_usd_high": high, "models": list(estimate.models),
        "unpriced_models": list(estimate.unpriced), "bad": estimate.bad, "problems": list(estimate.problems),
        "bounded": estimate.bounded,
    }  # fmt: skip
    if format is None:
        tell_plan(estimate)
    else:
        output.show_fields(row, format)


def tell_plan(estimate: Estimate, *, half: bool = False) -> None:
    """Say what a run sends, and about what it costs, perhaps at a batch service's price."""
    if not estimate.items and not estimate.bad:
        output.notice("Nothing is to do.")
        return
    most = "up to " if estimate.bounded else "about "
    tokens = f"up to {number(estimate.input_tokens)} tokens in, {most}{number(estimate.output_tokens)} out"
    low, high = (round(nano * (BATCH_SHARE if half else 1)) for nano in (estimate.low, estimate.high))
    cost = f"{money(low)} to {'about ' if not estimate.bounded else ''}{money(high)}" if high else ""
    if estimate.unpriced:
        cost = f"{cost + ', ' if cost else ''}no price is known of {', '.join(estimate.unpriced)}"
    bad = f"; {counted(estimate.bad, 'item')} cannot be sent" if estimate.bad else ""
    to = ", ".join(estimate.models) or "no model"
    output.notice(f"{counted(estimate.items, 'item')} to {to}: {tokens}, {cost or '$0'}{bad}")
    if not estimate.bounded:
        output.notice("No max_tokens bounds an answer (-o max_tokens N): each is reckoned with 1,024 tokens.", dim=True)
    for problem in estimate.problems:
        output.notice(problem, fg="yellow")


SHARDS = Layout({"service": "service", "status": "status", "items": "items", "remote_id": "its id", "error": "error"},
                "error")  # fmt: skip


def show_shards(shards: Sequence[BatchShard], format: str | None) -> None:
    """Show the shards of a batch at a provider's service."""
    rows = [
        {"id": shard.uuid, "service": shard.service, "status": shard.status, "items": shard.items,
         "remote_id": shard.remote_id, "counts": shard.counts, "error": shard.error, "created_at": shard.created_at,
         "submitted_at": shard.submitted_at, "ended_at": shard.ended_at, "fetched_at": shard.fetched_at}
        for shard in shards
    ]  # fmt: skip
    output.show_rows(rows, format, SHARDS)


def fetch(reference: str, every_s: int | None, format: str | None) -> None:
    """Fetch results, once or until all are there, and show where the batch is then."""
    while True:
        came = batches.fetch(reference)
        output.notice(
            f"{counted(came.answered, 'answer')}, {came.failed:,} failed, {came.missing:,} without a result; "
            f"{counted(came.waiting, 'shard')} not ended"
        )
        for line in came.odd:
            output.notice(f"The counts differ: {line}", fg="yellow")
        if every_s is None or not came.waiting:
            break
        time.sleep(every_s)
    state = batches.status(reference)
    show_status(state, format)
    if came.waiting:
        raise SomeFailed(f"{counted(came.waiting, 'shard')} not ended", hint=f"llmsess batch fetch {state.name}, later")
    _check_counts(state)


def run(job: BatchJob, format: str | None) -> None:
    """Run a batch with its progress on a terminal, and show how it ended; raises where it did not end well."""
    progress = Progress(job.total_items)
    try:
        progress.start(job)
        report = batches.run(job, progress.tell, on_interrupt=progress.interrupted, on_wait=progress.waiting)
    finally:
        progress.clear()
    show_status(report.job, format)
    for one in progress.failures[:FAILURES_SHOWN] if format is None else ():
        output.notice(f"{short_key(one.key)}: {one.error_kind}: {one.error}")
    _check(report)


def _check(report: RunReport) -> None:
    """Raise what says that a run did not end well."""
    if report.status == "interrupted":
        raise KeyboardInterrupt
    if report.error is not None:
        raise report.error
    if report.job.status == "cancelled":
        raise SomeFailed(f'the batch "{report.job.name}" is cancelled')
    if report.status == "paused" and report.job.counts["sent"]:
        raise SomeFailed(report.reason or "items are left", hint=f"llmsess batch fetch {report.job.name}")
    if report.status == "paused":
        raise SomeFailed(f'the batch "{report.job.name}" is paused: {report.reason or "items are left"}')
    _check_counts(report.job)


def _check_counts(state: Status) -> None:
    """Raise SomeFailed where items have failed, or their answers are lost."""
    words = [f"{state.counts[name]:,} {name}" for name in ("failed", "unknown") if state.counts[name]]
    if words:
        raise SomeFailed(f"{' and '.join(words)} of {counted(state.total, 'item')}")


class Progress:
    """A line on standard error, where that is a terminal: how many, how fast, how long still, cost and failures."""

    def __init__(self, total: int) -> None:
        self.total, self.began, self.drawn = total, time.monotonic(), 0.0
        self.settled = 0
        self.failures: list[Settled] = []
        self.shown = sys.stderr is not None and sys.stderr.isatty()

    def tell(self, one: Settled) -> None:
        """Take in what became of an item."""
        self.settled += 1
        if one.status in ("failed", "unknown") and len(self.failures) < FAILURES_SHOWN:
            self.failures.append(one)
        moment = time.monotonic()
        if self.shown and moment - self.drawn >= REDRAWN_S:
            self.drawn = moment
            output.redraw(self.line(one.progress, moment))

    def start(self, job: BatchJob) -> None:
        """Show the line before anything has come."""
        if self.shown:
            row = {name: getattr(job, name) for name in (*batches.STATES, "total_items", "spent_cost", "unpriced")}
            output.redraw(self.line(row, time.monotonic()))

    def waiting(self, seconds: float) -> None:
        """Say that no request may leave for a while."""
        self.clear()
        output.notice(f"Waiting {_span(seconds)}: a server or a limit lets no request leave.")

    def interrupted(self, flying: int) -> None:
        """Say what Ctrl-C has led to."""
        self.clear()
        output.notice(f"Stopping after {counted(flying, 'request')} on the way; Ctrl-C again stops now.")

    def line(self, row: Any, moment: float) -> str:
        """Return the line."""
        ended = sum(row[state] for state in ("done", "failed", "unknown", "cancelled", "skipped"))
        total, rate = max(row["total_items"], 1), self.settled / max(moment - self.began, 1e-3)
        left = (total - ended) / rate if rate else 0
        filled = round(20 * ended / total)
        cost = usd(row["spent_cost"], row["unpriced"])
        parts = [
            f"{'█' * filled}{'░' * (20 - filled)} {ended:,}/{total:,}", f"{rate:.1f}/s", f"{_span(left)} left",
            "" if cost is None else f"{'≥' if row['unpriced'] else ''}${cost:.4f}",
            style(f"{row['failed']:,} failed", fg="red") if row["failed"] else "",
            f"{row['unknown']:,} unknown" if row["unknown"] else "",
        ]  # fmt: skip
        return " · ".join(filter(None, parts))

    def clear(self) -> None:
        """Take the line away."""
        if self.shown:
            output.redraw("")


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
