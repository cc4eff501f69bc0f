"""`llmsess search`."""

from __future__ import annotations

import re
from typing import Any

import click

from llmsess import search as searches
from llmsess.cli import output, table
from llmsess.cli.completion_types import MODEL, PROJECT, TAG
from llmsess.cli.options import chosen_format, database, format_options, moment

SCOPES = click.Choice(["content", "reasoning", "tools"])


class Query(click.Command):
    """A command whose words may begin with a dash, as -clouds: only --options are options, and -h."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [f" {arg}" if re.match(r"-[^-]", arg) and arg != "-h" else arg for arg in args])


@click.command(cls=Query)
@click.argument("query", nargs=-1, required=True)
@click.option("--role", "roles", multiple=True, help="Only messages of this role.")
@click.option("--in", "scopes", multiple=True, type=SCOPES, help="Where to look; all but tools if not given.")
@click.option("--project", shell_complete=PROJECT, help="Only in this project.")
@click.option("--model", shell_complete=MODEL, help="Only by or with this model, as provider/name.")
@click.option("--tag", shell_complete=TAG, help="Only in sessions with this tag.")
@click.option("--type", "type_", help="Only in sessions of this type.")
@click.option("--since", help="Only said since: 7d, yesterday, a date, a time.")
@click.option("--until", help="Only said before: 7d, yesterday, a date, a time.")
@click.option("--sort", type=click.Choice(["relevance", "newest"]), default="relevance", show_default=True)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many hits.")
@format_options
@database
def search(query: tuple[str, ...], format_: str | None, as_json: bool, **given: Any) -> None:
    """Find messages. Words are ANDed; "phrases", -without, OR, NOT and prefix* work; any text is a valid query.

    \b
    Examples:
      llmsess search sky -cloud --since 30d
      llmsess search '"connection refused"' --in tools
    """
    filter = searches.SearchFilter(
        roles=given["roles"], scopes=given["scopes"] or searches.DEFAULT_SCOPES, project=given["project"],
        model=given["model"], tag=given["tag"], type=given["type_"], since=moment(given["since"]),
        until=moment(given["until"]), sort=given["sort"], limit=given["limit"],
    )  # fmt: skip
    found = searches.find(" ".join(query), filter)
    chosen = chosen_format(format_, as_json)
    rows = [hit._asdict() for hit in found]
    if chosen is None and output.is_terminal():
        show_hits(rows)
    else:
        output.show_rows(rows, chosen, _LAYOUT, lambda row: row | {key: row[key][:8] for key in _IDS})
    if found.truncated:
        output.notice(f"More than {searches.RANKED:,} messages match: the newest {searches.RANKED:,} are ranked.")


_IDS = ("session_id", "message_id")
_LAYOUT = output.Layout(
    {"session_id": "session", "message_id": "message", "role": "role", "created_at": "said", "snippet": "snippet"},
    flexible="snippet", spare=("message_id", "created_at"),
)  # fmt: skip


def show_hits(rows: list[output.Row]) -> None:
    """Write the hits for a person, the matches in colour."""
    for row in rows:
        session, message = (row[key][:8] for key in _IDS)
        facts = [session, f"message {message}", row["role"], output.local_time(row["created_at"])]
        where = " · ".join(fact for fact in facts if fact)
        title = table.cut(output.cell(row["session_title"] or "(untitled)"), output.columns() - len(where) - 1)
        output.out(f"{output.style(title, bold=True)} {output.style(where, dim=True)}")
        marked = re.sub(
            r"<mark>(.*?)</mark>", lambda found: output.style(found[1], fg="yellow", bold=True), row["snippet"]
        )
        output.out(output.wrapped(marked, "  "))
    if not rows:
        output.notice("Nothing found.")
