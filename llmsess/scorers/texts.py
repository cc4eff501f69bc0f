"""Scorers of what a text says, under promptfoo's names: equals, contains, starts-with, regex, word-count, numeric."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llmsess.errors import InvalidInput
from llmsess.scorers.base import Answer, Score, Scorer, Unscored, Wanted, need_value, text_of, texts_of, verdict
from llmsess.scorers.json_values import parsed
from llmsess.texts import one_line

MAX_MATCHING_S = 2.0  # of a regular expression, which may need longer than anyone has
SHOWN = 60  # characters of a text in a reason
NUMBER = re.compile(r"(?<![\d.,])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?%?")
Fold = Callable[[str], str]


def _shown(text: str) -> str:
    return f'"{one_line(text, SHOWN)}"'


def equals(answer: Answer, wanted: Wanted) -> Score:
    """Hold the text against a text, or several of which one will do, and what is JSON against an object."""
    if isinstance(wanted.value, (dict, list)):
        one_of = isinstance(wanted.value, list) and answer.text in map(text_of, wanted.value)
        return verdict(one_of or parsed(answer.text) == wanted.value, "the answer is another value")
    expected = text_of(wanted.value)
    near = " but for the spaces around it" if answer.text.strip() == expected.strip() else ""
    return verdict(answer.text == expected, f"{_shown(answer.text)} is not {_shown(expected)}{near}")


def contains(fold: Fold) -> Callable[[Answer, Wanted], Score]:
    def measure(answer: Answer, wanted: Wanted) -> Score:
        if isinstance(wanted.value, list):  # several that are right
            return contains_any(fold)(answer, wanted)
        part = text_of(wanted.value)
        return verdict(fold(part) in fold(answer.text), f"{_shown(part)} is not in it")

    return measure


def contains_all(fold: Fold) -> Callable[[Answer, Wanted], Score]:
    def measure(answer: Answer, wanted: Wanted) -> Score:
        missing = [part for part in _parts(wanted) if fold(part) not in fold(answer.text)]
        return verdict(not missing, f"{', '.join(map(_shown, missing[:3]))} not in it")

    return measure


def contains_any(fold: Fold) -> Callable[[Answer, Wanted], Score]:
    def measure(answer: Answer, wanted: Wanted) -> Score:
        parts = _parts(wanted)
        found = any(fold(part) in fold(answer.text) for part in parts)
        return verdict(found, f"none of {', '.join(map(_shown, parts[:3]))} is in it")

    return measure


def _parts(wanted: Wanted) -> list[str]:
    """Return the texts that are looked for; an empty one is in every answer, and says nothing."""
    parts = [part for part in texts_of(wanted.value) if part.strip()]
    if not parts:
        raise Unscored("no texts are named")
    return parts


def starts_with(answer: Answer, wanted: Wanted) -> Score:
    starts = texts_of(wanted.value) if isinstance(wanted.value, list) else [text_of(wanted.value)]
    why = f"{_shown(answer.text)} does not begin with {' or '.join(map(_shown, starts[:3]))}"
    return verdict(answer.text.startswith(tuple(starts)), why)


def regex(answer: Answer, wanted: Wanted) -> Score:
    import regex as patterns  # here: few comparisons need it; it knows JavaScript's groups and classes, and a limit

    try:
        found = patterns.search(text_of(wanted.value), answer.text, timeout=MAX_MATCHING_S)
    except patterns.error as error:
        raise Unscored(f"no regular expression: {error}") from error
    except TimeoutError as error:
        raise Unscored(f"the regular expression takes more than {MAX_MATCHING_S:g} s") from error
    return verdict(found is not None, f"nothing in it matches {_shown(text_of(wanted.value))}")


def need_text(wanted: Wanted) -> None:
    """Raise InvalidInput where there is no text to look for: an empty one is in every answer."""
    if wanted.value in (None, "", []):
        raise InvalidInput("needs a value")


def check_regex(wanted: Wanted) -> None:
    need_value(wanted)
    text = text_of(wanted.value)
    if "{{" in text:
        return
    import regex as patterns

    try:
        patterns.compile(text)
    except patterns.error as error:
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
    if found[-1].endswith("%") and not str(wanted.value).strip().endswith("%") and abs(expected) > 1:
        said *= 100  # 12 % of what is asked for as 12
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
    "contains": Scorer("this text is in the answer", contains(_same), need_text),
    "icontains": Scorer("the same, in upper or lower case", contains(str.casefold), need_text),
    "contains-all": Scorer("each of these texts is in it", contains_all(_same), need_text),
    "icontains-all": Scorer("the same, in upper or lower case", contains_all(str.casefold), need_text),
    "contains-any": Scorer("one of these texts is in it", contains_any(_same), need_text),
    "icontains-any": Scorer("the same, in upper or lower case", contains_any(str.casefold), need_text),
    "starts-with": Scorer("the answer begins with this text", starts_with, need_text),
    "regex": Scorer("this regular expression finds something in it", regex, check_regex),
    "word-count": Scorer("it has so many words, or from min to max", word_count, need_value),
    "numeric": Scorer("its last number is this one, within the threshold", numeric, need_value),
}
