"""Figures over what was said and what it cost. Unknown is never zero: each sum carries what it leaves out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal

from llmsess.db import database
from llmsess.models import usd


@dataclass(frozen=True)
class Summary:
    """Counts, tokens and cost of a whole database; tokens are sums of the known ones, `cost` is nano-USD."""

    projects: int
    models: int
    sessions: int
    messages: int
    turns: int  # prompts that a person wrote
    replies: int  # messages that a model wrote
    failed: int  # replies that failed
    interrupted: int  # replies that were cut short
    calls: int
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    output_tokens: int
    cost: int  # of those that have a price
    unpriced_messages: int

    @property
    def cost_usd(self) -> Decimal | None:
        """Return the cost in USD, None where nothing has a price."""
        return usd(self.cost, self.unpriced_messages)


_TOTALS = """
    SELECT count(*), coalesce(sum(total_messages), 0), coalesce(sum(total_input_tokens), 0),
        coalesce(sum(total_cached_input_tokens), 0), coalesce(sum(total_cache_write_tokens), 0),
        coalesce(sum(total_output_tokens), 0), coalesce(sum(total_cost), 0), coalesce(sum(unpriced_messages), 0)
    FROM sessions
"""
_MESSAGES = """
    SELECT coalesce(sum(role = 'user' AND origin = 'human'), 0),
        coalesce(sum(origin = 'model' AND role = 'assistant'), 0),
        coalesce(sum(status = 'failed'), 0), coalesce(sum(status = 'interrupted'), 0)
    FROM messages
"""


def summary() -> Summary:
    """Return the counts, tokens and cost of everything in the database."""

    def one(sql: str) -> tuple[int, ...]:
        return tuple(database.execute_sql(sql).fetchone())

    with database.atomic("DEFERRED"):  # one moment for all of them, no lock
        totals, messages = one(_TOTALS), one(_MESSAGES)
        projects, models, calls, hidden = one(
            "SELECT (SELECT count(*) FROM projects), (SELECT count(*) FROM models), (SELECT count(*) FROM calls), "
            "(SELECT count(*) FROM sessions WHERE status = 'deleted')"
        )
    counts = (projects, models, totals[0] - hidden, totals[1], *messages, calls, *totals[2:])
    return Summary(**dict(zip((field.name for field in fields(Summary)), counts, strict=True)))
