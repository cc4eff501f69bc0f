"""Request parameters: those that are known are checked before anything is sent, any other goes to the server as it is.

`temperature` and `max_tokens` have columns of their own; given among the others they are moved there. Ranges are the
widest that a server is known to take.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmsess import door
from llmsess.errors import InvalidInput
from llmsess.texts import one_line

NEAR = 0.85  # how alike an unknown name must be to a known one to be a slip of the pen


def _number(low: float, high: float, *, whole: bool = False) -> tuple[str, Callable[[Any], bool]]:
    """Return what a number can be, in words, and its check."""
    kinds = (int,) if whole else (int, float)
    words = f"a {'whole number' if whole else 'number'} from {low:g} to {high:g}"
    if high == float("inf"):
        words = f"a {'whole number' if whole else 'number'} from {low:g} on"
    return words, lambda value: isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high


def _kind(words: str, *kinds: type) -> tuple[str, Callable[[Any], bool]]:
    return words, lambda value: isinstance(value, kinds)


_INF, _UP = float("inf"), 2**53
_SWITCH, _TEXT, _OBJECT, _LIST = (
    _kind("true or false", bool), _kind("a text", str), _kind("an object", dict), _kind("a list", list),
)  # fmt: skip
_TEXTS = ("a text or a list of texts", lambda value: isinstance(value, str) or _are_texts(value))
KNOWN: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "temperature": _number(0, 10),
    **dict.fromkeys(("max_tokens", "max_completion_tokens"), _number(1, _UP, whole=True)),
    **dict.fromkeys(("top_p", "min_p", "typical_p", "top_a"), _number(0, 1)),
    "top_k": _number(-1, _UP, whole=True),
    **dict.fromkeys(("frequency_penalty", "presence_penalty"), _number(-2, 2)),
    **dict.fromkeys(("repetition_penalty", "repeat_penalty"), _number(0, _INF)),
    "seed": _number(-(2**63), 2**64, whole=True),
    "n": ("1: a turn has one reply, and session retry makes another", lambda value: value == 1),
    "stop": _TEXTS,
    "stop_sequences": ("a list of texts", lambda value: _are_texts(value)),
    "min_tokens": _number(0, _UP, whole=True),
    "top_logprobs": _number(0, 100, whole=True),
    "logprobs": _kind("true or false, or how many", bool, int),
    **dict.fromkeys(("reasoning_effort", "verbosity", "service_tier", "user", "prompt_cache_key"), _TEXT),
    **dict.fromkeys(("logit_bias", "thinking", "reasoning", "response_format", "metadata"), _OBJECT),
    **dict.fromkeys(("store", "parallel_tool_calls"), _SWITCH),
    "tools": _LIST,
    "tool_choice": _kind("a text or an object", str, dict),
}
_OURS = ("model", "messages", "stream", "stream_options")  # of a request: what llmsess says itself
_SECRETS = (
    "api_key", "apikey", "x_api_key", "authorization", "access_token", "auth_token", "password", "secret", "headers",
    "extra_headers", "default_headers",
)  # fmt: skip


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _check(name: str, value: Any) -> None:
    """Raise InvalidInput for a parameter that a request cannot have."""
    if name in _OURS:
        raise InvalidInput(f'"{name}" is no parameter to set: llmsess does', hint="-m for the model, --no-stream")
    if name.lower().replace("-", "_") in _SECRETS:
        raise InvalidInput(
            f'"{name}" is no parameter: keys come from the environment and are never stored',
            hint="llmsess model edit MODEL --api-key-env VAR",
        )
    if name in KNOWN:
        words, fits = KNOWN[name]
        if not fits(value):
            raise InvalidInput(f"{name} is {words}, not {one_line(repr(value), 40)}")
        return
    near = difflib.get_close_matches(name.lower(), KNOWN, 1, cutoff=NEAR)
    if near:
        raise InvalidInput(f'no parameter "{one_line(name, 40)}"; did you mean "{near[0]}"?')


def checked(value: Any) -> dict[str, Any] | None:
    """Return request parameters, None where there are none; raises InvalidInput for one that cannot be."""
    if not value:
        return None
    found = door.json_object(value, "parameters")
    for name, setting in found.items():
        _check(name, setting)
    return found


@dataclass(frozen=True)
class Given:
    """Request parameters with the two that are columns apart; None is what was not given."""

    temperature: float | None
    max_tokens: int | None
    others: Mapping[str, Any] | None


def given(value: Any, temperature: Any = None, max_tokens: Any = None) -> Given:
    """Return parameters checked, those that are columns moved out of the others; raises InvalidInput."""
    columns = {"temperature": temperature, "max_tokens": max_tokens}
    others = checked(value) or {}
    for name, own in columns.items():
        among = others.get(name)
        columns[name] = among if own is None else own
        if columns[name] is not None:
            _check(name, columns[name])
    rest = {name: setting for name, setting in others.items() if name not in columns}
    degrees = columns["temperature"]
    return Given(None if degrees is None else float(degrees), columns["max_tokens"], rest or None)
