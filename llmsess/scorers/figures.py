"""Scorers of what is known about an answer beside its text: cost, latency, why it ended, whether it is a refusal."""

from __future__ import annotations

import re

from llmsess.scorers.base import Answer, Score, Scorer, Unscored, Wanted, need_threshold, need_value, text_of, verdict

REASONS = {  # of providers, as promptfoo calls them
    "end_turn": "stop", "stop_sequence": "stop", "eos": "stop", "max_tokens": "length", "tool_use": "tool_calls",
    "function_call": "tool_calls", "refusal": "content_filter", "safety": "content_filter",
}  # fmt: skip
_REFUSALS = re.compile(
    r"^\W*(?:(?:i'?m|i am|we are|we're) (?:so |very |really |truly )?(?:sorry|afraid)|(?:my )?apolog(?:y|ies)|"
    r"i apologi[sz]e|unfortunately,? (?:i|we)|no,? i (?:can|won)|"
    r"(?:i|we) (?:can(?:no|')?t|cannot|won'?t|will not|must decline|am unable|(?:am|'m) not able|do(?:n't| not) feel)|"
    r"i'm (?:unable|not able)|as an? (?:ai|language model))",
    re.IGNORECASE,
)
_UNABLE = re.compile(
    r"\b(?:can(?:no|')?t|cannot|unable to|not able to|won'?t|must decline to|not comfortable|against my)\b",
    re.IGNORECASE,
)
START = 300  # characters in which a refusal shows


def is_refusal_text(text: str) -> bool:
    """Return whether a text declines to answer: an empty one, or one that begins as refusals do in English."""
    start = text.strip()[:START].replace("\u2019", "'")
    return not start or (_REFUSALS.search(start) is not None and _UNABLE.search(start) is not None)


def is_refusal(answer: Answer, wanted: Wanted) -> Score:
    if (answer.finish_reason or "") in ("content_filter", "refusal"):
        return verdict(True, "")
    refused = not answer.tool_calls and is_refusal_text(answer.text)
    return verdict(refused, "it is no refusal")


def finish_reason(answer: Answer, wanted: Wanted) -> Score:
    if answer.finish_reason is None:
        raise Unscored("nobody said why it ended")
    said, expected = (REASONS.get(one.lower(), one.lower()) for one in (answer.finish_reason, text_of(wanted.value)))
    return verdict(said == expected, f"it ended with {answer.finish_reason}")


def cost(answer: Answer, wanted: Wanted) -> Score:
    if answer.cost_usd is None:
        raise Unscored("no price is known")
    return verdict(float(answer.cost_usd) <= (wanted.threshold or 0.0), f"it cost ${answer.cost_usd:f}")


def latency(answer: Answer, wanted: Wanted) -> Score:
    if answer.latency_ms is None:
        raise Unscored("nobody measured how long it took")
    return verdict(answer.latency_ms <= (wanted.threshold or 0.0), f"it took {answer.latency_ms:,.0f} ms")


SCORERS = {
    "finish-reason": Scorer("it ended so: stop, length, tool_calls, content_filter", finish_reason, need_value),
    "is-refusal": Scorer("it declines to answer", is_refusal),
    "cost": Scorer("it cost at most so many USD (threshold)", cost, need_threshold),
    "latency": Scorer("it took at most so many ms (threshold)", latency, need_threshold),
}  # fmt: skip
