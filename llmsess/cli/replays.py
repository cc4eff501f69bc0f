"""How a replay is shown: what it would send, each prompt with its old and its new answer side by side, the sum."""

from __future__ import annotations

from collections.abc import Sequence

from llmsess import snapshots
from llmsess.cli import conversation, output, replying, table
from llmsess.cli.output import Row, counted, money, number, style
from llmsess.cli.replying import Display
from llmsess.models import Message, Session
from llmsess.snapshots import Replayed, ReplayPlan
from llmsess.texts import one_line

SIDE_BY_SIDE = 100  # columns that a terminal must have for two texts beside each other


def plan_words(plan: ReplayPlan) -> str:
    """Return what a replay would send and about what it costs."""
    unpriced = f" ({plan.unpriced} without a price)" if plan.unpriced and plan.cost else ""
    cost = f"about {money(plan.cost)}{unpriced}" if plan.cost or not plan.unpriced else "no price is known"
    tokens = f"about {number(plan.input_tokens)} tokens in, {number(plan.output_tokens)} out"
    return f"{counted(len(plan.turns), 'prompt')} to {', '.join(plan.models)}: {tokens}, {cost}"


def question(plan: ReplayPlan) -> str:
    """Return what is asked before a replay."""
    return f"Send {counted(len(plan.turns), 'prompt')} again"


def show(plan: ReplayPlan, title: str | None, display: Display) -> None:
    """Send the prompts of a plan and show their answers, as they come."""
    done: list[Replayed] = []
    for turn in snapshots.stream_replay(plan, title=title, on_branch=_show_branch, on_wait=replying.waiting):
        done.append(turn)
        if not display.as_json:
            output.out(_turn_text(turn), newline=False)
    costs = [turn.new.cost for turn in done]
    spent, unpriced = sum(cost or 0 for cost in costs), sum(cost is None for cost in costs)
    if display.as_json:
        output.show_json(_json(done) | {"cost_usd": output.cost_usd(spent, unpriced), "unpriced_messages": unpriced})
    else:
        output.notice(f"{counted(len(done), 'answer')}, {money(spent, unpriced)}")


def _show_branch(branch: Session) -> None:
    output.notice(f"On a new branch: llmsess show {branch.uuid[: conversation.SHORT_ID]}", dim=True)


def _json(done: Sequence[Replayed]) -> Row:
    turns = [
        {"prompt": turn.prompt.content, "old": _answer_json(turn.old), "new": _answer_json(turn.new)} for turn in done
    ]
    return {"session_id": done[0].session.uuid, "turns": turns}


def _answer_json(message: Message | None) -> Row | None:
    return None if message is None else conversation.messages_json([message])[0]


def _turn_text(turn: Replayed) -> str:
    """Return a prompt with its answers: beside each other where the terminal is wide, else one after the other."""
    prompt = f"{style('user', fg='green', bold=True)} {output.prose(one_line(turn.prompt.content, 400))}\n"
    headings = [_heading("old", turn.old), _heading("new", turn.new)]
    answers = [turn.old.content if turn.old is not None else "", turn.new.content or turn.new.error or ""]
    if output.is_terminal() and output.columns() >= SIDE_BY_SIDE:
        return f"\n{prompt}{table.beside(headings, answers, output.columns())}\n"
    parts = [f"{heading}\n{output.prose(answer)}\n" for heading, answer in zip(headings, answers, strict=True)]
    return "\n" + prompt + "".join(parts)


def _heading(which: str, message: Message | None) -> str:
    if message is None:
        return style(f"{which}: none", fg="cyan", bold=True)
    names = conversation.model_names([message])
    facts = [
        names.get(message.model_id or 0, ""),
        f"{number(message.output_tokens)} tokens" if message.output_tokens else "",
        money(message.cost) if message.cost is not None else "",
        f"{message.latency_ms / 1000:.1f} s" if message.latency_ms else "",
    ]  # fmt: skip
    return style(f"{which}: {' · '.join(filter(None, facts))}", fg="cyan", bold=True)
