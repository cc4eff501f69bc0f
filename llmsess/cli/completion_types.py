"""What a shell completes names with: of sessions, models, projects, tags. A completion that fails completes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from llmsess.errors import LlmsessError

SHOWN = 50
_QUERIES = {
    "session": (
        "SELECT substr(uuid, 1, 8), coalesce(title, '') FROM sessions WHERE status <> 'deleted' "
        "AND uuid >= :low AND uuid < :low || 'g' ORDER BY last_activity_at DESC LIMIT :shown"
    ),
    "model": (
        "SELECT provider || '/' || model_name, '' FROM models WHERE is_active "
        "AND substr(lower(provider || '/' || model_name), 1, :length) = :low LIMIT :shown"
    ),
    "project": "SELECT name, '' FROM projects WHERE substr(lower(name), 1, :length) = :low LIMIT :shown",
    "template": "SELECT name, '' FROM templates WHERE substr(lower(name), 1, :length) = :low LIMIT :shown",
    "snapshot": (
        "SELECT substr(uuid, 1, 8), coalesce(name, created_at) FROM session_snapshots "
        "WHERE uuid >= :low AND uuid < :low || 'g' ORDER BY created_at DESC LIMIT :shown"
    ),
    "batch": (
        "SELECT name, status FROM batch_jobs WHERE substr(lower(name), 1, :length) = :low "
        "ORDER BY created_at DESC LIMIT :shown"
    ),
    "comparison": (
        "SELECT name, status FROM comparison_groups WHERE substr(lower(name), 1, :length) = :low "
        "ORDER BY created_at DESC LIMIT :shown"
    ),
    "tag": "SELECT DISTINCT tag, '' FROM session_tags WHERE substr(tag, 1, :length) = :low LIMIT :shown",
}  # fmt: skip
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _troubles() -> tuple[type[Exception], ...]:
    from llmsess import db

    return (LlmsessError, *db.DRIVER_ERRORS)


def _completer(kind: str) -> Completer:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from llmsess import db
        from llmsess.texts import clean, one_line

        low = clean(incomplete)
        try:
            opened = db.open_unchecked(ctx.find_root().params.get("db"))  # a TAB makes and upgrades nothing
            ctx.call_on_close(opened.close)
            values: dict[str, Any] = {"low": low.lower(), "length": len(low), "shown": SHOWN}
            rows = opened.execute_sql(_QUERIES[kind], values).fetchall()
        except _troubles():
            return []  # there is nobody to tell: the shell is waiting for words
        words = [CompletionItem(value, help=one_line(text, 60) or None) for value, text in rows]
        if kind in ("session", "snapshot", "batch", "comparison") and "@last".startswith(incomplete):
            words.append(CompletionItem("@last"))
        return words

    return complete


SESSION, SNAPSHOT, MODEL = map(_completer, ("session", "snapshot", "model"))
PROJECT, TAG, TEMPLATE, BATCH = map(_completer, ("project", "tag", "template", "batch"))
COMPARISON = _completer("comparison")
