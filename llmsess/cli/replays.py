"""How a replay is shown: what it would send, each prompt with its old and its new answer side by side, the sum."""

from __future__ import annotations

from collections.abc import Sequence

from llmsess import snapshots
from llmsess.cli import conversation, output, replying, table
from llmsess.cli.output import Row, counted, money, number, style
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


def plan_json(plan: ReplayPlan) -> Row:
    """Return a plan as the object that `snapshot replay --dry-run --json` has."""
    return {
        "prompts": [turn.prompt.content for turn in plan.turns],
        "models": plan.models,
        "input_tokens": plan.input_tokens,
        "output_tokens": plan.output_tokens,
        "cost_usd": output.cost_usd(plan.cost, plan.unpriced),
        "unpriced_messages": plan.unpriced,
    }


def show(plan: ReplayPlan, title: str | None, format: str | None) -> None:
    """Send the prompts of a plan and show their answers, as they come; those before an error too."""
    branches: list[Session] = []
    done: list[Replayed] = []

    def begun(branch: Session) -> None:
        branches.append(branch)
        output.notice(f"On a new branch: llmsess show {branch.uuid[: conversation.SHORT_ID]}", dim=True)

    try:
        for turn in snapshots.stream_replay(plan, title=title, on_branch=begun, on_wait=replying.waiting):
            done.append(turn)
            if format is None:
                output.out(_turn_text(turn), newline=False)
    finally:
        costs = [turn.new.cost for turn in done]
        spent, unpriced = sum(cost or 0 for cost in costs), sum(cost is None for cost in costs)
        if format == "json":
            figures = {"cost_usd": output.cost_usd(spent, unpriced), "unpriced_messages": unpriced}
            output.show_json({"session_id": branches[0].uuid if branches else None, "turns": _json(done), **figures})
        elif format is not None:
            output.show_rows([_brief(turn) for turn in done], format)
        else:
            output.notice(f"{len(done)} of {counted(len(plan.turns), 'answer')}, {money(spent, unpriced) or '$0'}")


def _brief(turn: Replayed) -> Row:
    return {"prompt": turn.prompt.content, "old": turn.old and turn.old.content, "new": turn.new.content}


def _json(done: Sequence[Replayed]) -> list[Row]:
    return [
        {"prompt": turn.prompt.content, "old": _answer_json(turn.old), "new": _answer_json(turn.new)} for turn in done
    ]


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
