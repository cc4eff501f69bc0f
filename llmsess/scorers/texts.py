"""Scorers of what a text says, under promptfoo's names: equals, contains, starts-with, regex, word-count, numeric."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llmsess.errors import InvalidInput
from llmsess.scorers.base import Answer, Score, Scorer, Unscored, Wanted, need_value, text_of, texts_of, verdict
from llmsess.texts import one_line

SHOWN = 60  # characters of a text in a reason
NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?%?")
Fold = Callable[[str], str]


def _shown(text: str) -> str:
    return f'"{one_line(text, SHOWN)}"'


def equals(answer: Answer, wanted: Wanted) -> Score:
    """Hold the text against a text, and what is JSON against an object."""
    if isinstance(wanted.value, (dict, list)):
        from llmsess.scorers.json_values import parsed

        return verdict(parsed(answer.text) == wanted.value, "the answer is another value")
    expected = text_of(wanted.value)
    near = " but for the spaces around it" if answer.text.strip() == expected.strip() else ""
    return verdict(answer.text == expected, f"{_shown(answer.text)} is not {_shown(expected)}{near}")


def contains(fold: Fold) -> Callable[[Answer, Wanted], Score]:
    def measure(answer: Answer, wanted: Wanted) -> Score:
        part = text_of(wanted.value)
        return verdict(fold(part) in fold(answer.text), f"{_shown(part)} is not in it")

    return measure


def contains_all(fold: Fold) -> Callable[[Answer, Wanted], Score]:
    def measure(answer: Answer, wanted: Wanted) -> Score:
        missing = [part for part in texts_of(wanted.value) if fold(part) not in fold(answer.text)]
        return verdict(not missing, f"{', '.join(map(_shown, missing[:3]))} not in it")

    return measure


def contains_any(fold: Fold) -> Callable[[Answer, Wanted], Score]:
    def measure(answer: Answer, wanted: Wanted) -> Score:
        parts = texts_of(wanted.value)
        found = any(fold(part) in fold(answer.text) for part in parts)
        return verdict(found, f"none of {', '.join(map(_shown, parts[:3]))} is in it")

    return measure


def starts_with(answer: Answer, wanted: Wanted) -> Score:
    start = text_of(wanted.value)
    return verdict(answer.text.startswith(start), f"{_shown(answer.text)} does not begin with {_shown(start)}")


def regex(answer: Answer, wanted: Wanted) -> Score:
    try:
        found = re.search(_python(text_of(wanted.value)), answer.text)
    except re.error as error:
        raise Unscored(f"no regular expression: {error}") from error
    return verdict(found is not None, f"nothing in it matches {_shown(text_of(wanted.value))}")


def _python(pattern: str) -> str:
    """Return a regular expression of JavaScript with its named groups as Python writes them."""
    return re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", pattern)


def check_regex(wanted: Wanted) -> None:
    need_value(wanted)
    text = text_of(wanted.value)
    if "{{" in text:
        return
    try:
        re.compile(_python(text))
    except re.error as error:
        raise InvalidInput(f"is no regular expression: {error}") from error


def word_count(answer: Answer, wanted: Wanted) -> Score:
    """Hold the number of words against a number, or against {min, max}."""
    count = len(answer.text.split())
    value = wanted.value
    low, high = (value.get("min"), value.get("max")) if isinstance(value, dict) else (value, value)
    least, most = (None if end is None else number_of(end) for end in (low, high))
    fits = (least is None or count >= least) and (most is None or count <= most)
    return verdict(fits, f"it has {count:,} words")


def numeric(answer: Answer, wanted: Wanted) -> Score:
    """Hold the last number of the text against a number; the threshold is how far off it may be (0)."""
    found = [one for one in NUMBER.findall(answer.text) if any(digit.isdigit() for digit in one)]
    if not found:
        return verdict(False, "there is no number in it")
    said, expected = number_of(found[-1]), number_of(wanted.value)
    reach = (wanted.threshold or 0.0) + 1e-9 * max(1.0, abs(expected))
    return verdict(abs(said - expected) <= reach, f"{said:g} is not {expected:g}")


def number_of(value: Any) -> float:
    """Return a number, also of a text as 1,234.5 or 12%; raises Unscored."""
    text = str(value).strip().replace(",", "").replace("−", "-")
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise Unscored(f"{_shown(str(value))} is no number") from None
    if found != found or abs(found) == float("inf"):
        raise Unscored(f"{_shown(str(value))} is no finite number")
    return found


def _same(text: str) -> str:
    return text


SCORERS = {
    "equals": Scorer("the answer is this text, or this JSON value", equals, need_value),
    "contains": Scorer("this text is in the answer", contains(_same), need_value),
    "icontains": Scorer("the same, in upper or lower case", contains(str.casefold), need_value),
    "contains-all": Scorer("each of these texts is in it", contains_all(_same), need_value),
    "icontains-all": Scorer("the same, in upper or lower case", contains_all(str.casefold), need_value),
    "contains-any": Scorer("one of these texts is in it", contains_any(_same), need_value),
    "icontains-any": Scorer("the same, in upper or lower case", contains_any(str.casefold), need_value),
    "starts-with": Scorer("the answer begins with this text", starts_with, need_value),
    "regex": Scorer("this regular expression finds something in it", regex, check_regex),
    "word-count": Scorer("it has so many words, or from min to max", word_count, need_value),
    "numeric": Scorer("its last number is this one, within the threshold", numeric, need_value),
}
