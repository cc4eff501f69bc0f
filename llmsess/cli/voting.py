"""`compare vote`: two answers without names, one key, and who was who at the end."""

from __future__ import annotations

import sys
from collections import Counter

import click

from llmsess import comparisons
from llmsess.cli import output, table
from llmsess.cli.output import counted, style
from llmsess.comparisons.judging import Pair, asked_of
from llmsess.models import ComparisonGroup
from llmsess.texts import without_controls

KEYS = {"1": "first", "2": "second", "t": "tie", "=": "tie", "b": "both_bad"}
HELP = "1 the first is better · 2 the second · t tie · b both bad · s skip · u undo · q quit"
STOPS = ("q", "\x03", "\x04", "\x1b", "")
NARROW = 70


def vote(group: ComparisonGroup, voter: str, *, everyone: bool, seed: int | None) -> None:
    """Show pair after pair and keep what a person prefers, until all are judged or they stop."""
    left = comparisons.to_vote(group, voter, everyone=everyone, seed=seed)
    if not left:
        output.notice("Every pair is judged.")
        _reveal(group, voter)
        return
    output.notice(f"{counted(len(left), 'pair')} to judge. {HELP}", bold=True)
    done: list[Pair] = []  # judged, and still to be taken back
    skipped: list[Pair] = []
    last: list[str] = []  # what was done, the latest at the end
    while left:
        pair = left[0]
        _show(pair, len(done) + len(skipped) + 1, len(done) + len(skipped) + len(left))
        key = _key()
        if key in STOPS:
            break
        if key == "u":
            _undo(group, voter, last, done, skipped, left)
        elif key == "s":
            skipped.append(left.pop(0))
            last.append("skip")
        elif key in KEYS:
            comparisons.cast(group, pair, pair.winner(KEYS[key]), voter)
            done.append(left.pop(0))
            last.append("vote")
        else:
            output.notice(HELP)
    left += skipped
    if left:
        output.notice(
            f"{counted(len(done), 'vote')} kept, {counted(len(left), 'pair')} left: the same command goes on."
        )
    else:
        _reveal(group, voter)


def _undo(
    group: ComparisonGroup, voter: str, last: list[str], done: list[Pair], skipped: list[Pair], left: list[Pair]
) -> None:  # fmt: skip
    """Take back the last vote, or the last skip."""
    if not last:
        output.notice("There is nothing to undo.")
    elif last.pop() == "skip":
        left.insert(0, skipped.pop())
    else:
        comparisons.undo(group, voter)
        left.insert(0, done.pop())


def _key() -> str:
    """Return the key that was pressed, the next character where no terminal is there, "" at its end."""
    if not sys.stdin.isatty():
        key = sys.stdin.read(1)
        while key.isspace():
            key = sys.stdin.read(1)
        return key.lower()
    try:
        return click.getchar().lower()
    except (KeyboardInterrupt, EOFError):
        return "q"


def _show(pair: Pair, number: int, total: int) -> None:
    output.out(style(f"\n── {number} of {total} ", bold=True) + "─" * 20)
    output.out(output.prose(asked_of(pair)))
    first, second = pair.shown()
    if output.is_terminal() and output.columns() >= NARROW:
        output.out()
        output.out(table.beside(["1", "2"], [first, second], output.columns()))
    else:
        for name, text in (("1", first), ("2", second)):
            output.out(f"\n{style(f'[{name}]', bold=True)}\n{without_controls(text)}")


def _reveal(group: ComparisonGroup, voter: str) -> None:
    """Say who was who: how often each variant was preferred."""
    mine = [one for one in comparisons.votes(group) if one.voter == voter and one.kind == "human"]
    won = Counter({"a": one.a, "b": one.b}.get(one.winner, "neither") for one in mine)
    told = ", ".join(f"{output.cell(name)} {count:,}" for name, count in won.most_common())
    output.out(f"{counted(len(mine), 'vote')}{': ' if told else ''}{told}")
    output.notice(f"What they say: llmsess compare show '{group.name}'")
