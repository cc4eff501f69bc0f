"""`llmsess stats`: counts, tokens and cost."""

from __future__ import annotations

from dataclasses import asdict

import click

from llmsess import analytics
from llmsess.cli import SuggestingGroup, output
from llmsess.cli.options import chosen_format, database, format_options


@click.group(cls=SuggestingGroup)
def stats() -> None:
    """Counts, tokens and cost."""


@stats.command()
@format_options
@database
def summary(format_: str | None, as_json: bool) -> None:
    """Show how much is in the database and what it cost; what has no price is counted, never taken for 0.

    \b
    Example:
      llmsess stats summary --json
    """
    figures = asdict(analytics.summary())
    nano, unpriced = figures.pop("cost"), figures.pop("unpriced_messages")
    record = figures | {"cost_usd": output.cost_usd(nano, unpriced), "unpriced_messages": unpriced}
    output.show_fields(record, chosen_format(format_, as_json), lambda row: _display(row, nano))


def _unpriced(count: int) -> str:
    if not count:
        return ""
    return f" ({output.counted(count, 'reply', 'replies')} {'has' if count == 1 else 'have'} no price)"


def _display(record: output.Row, nano: int) -> output.Row:
    shown = {key: output.number(value) for key, value in record.items() if isinstance(value, int)}
    unpriced = record["unpriced_messages"]
    left_out = _unpriced(unpriced)
    return {key: value for key, value in shown.items() if key != "unpriced_messages"} | {
        "cost": output.money(nano, unpriced) + left_out
    }
