"""Scorers: each against answers that hold and that do not, the registry's conformance, assertions read and measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsess import scorers
from llmsess.errors import InvalidInput
from llmsess.scorers import assertions, judges, similarity
from llmsess.scorers.assertions import Outcome, measure, parse
from llmsess.scorers.base import Answer, Judge, Scorer, Unscored, Wanted
from llmsess.scorers.figures import is_refusal_text

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]  # fmt: skip


def outcome(given: Any, answer: str | Answer, **variables: Any) -> Outcome:
    made = Answer(answer, variables) if isinstance(answer, str) else answer
    return measure(parse(given), made)


# (assertion, an answer that holds, one that does not)
CASES: list[tuple[Any, Any, Any]] = [
    ({"type": "equals", "value": "Paris"}, "Paris", " Paris\n"),
    ({"type": "equals", "value": 4}, "4", "5"),
    ({"type": "equals", "value": {"a": [1, 2]}}, '{"a": [1,2]}', '{"a": [2,1]}'),
    ({"type": "contains", "value": "Paris"}, "It is Paris.", "It is paris."),
    ({"type": "icontains", "value": "STRASSE"}, "die Straße", "der Weg"),
    ({"type": "contains-all", "value": ["a", "b"]}, "b a", "a"),
    ({"type": "contains-all", "value": 'a, "b, c"'}, "b, c and a", "a b c"),
    ({"type": "icontains-all", "value": "A,B"}, "ba", "b"),
    ({"type": "contains-any", "value": "x, y"}, "y", "Y"),
    ({"type": "icontains-any", "value": ["x", "Y"]}, "y", "z"),
    ({"type": "starts-with", "value": "Yes"}, "Yes, it is", "No. Yes"),
    ({"type": "regex", "value": r"\d{4}"}, "in 1999", "in 99"),
    ({"type": "word-count", "value": 2}, "two words", "one"),
    ({"type": "word-count", "value": {"min": 2, "max": 3}}, "a b c", "a b c d"),
    ({"type": "numeric", "value": 1234.5}, "that is 1,234.5", "that is 1,234.6"),
    ({"type": "numeric", "value": "50%"}, "so 0.5", "so 50"),
    ({"type": "numeric", "value": 10, "threshold": 0.5}, "10.4 km", "about 11 km"),
    ({"type": "numeric", "value": -3}, "x = -3", "there is none"),
    ({"type": "is-json"}, "[1]", "[1"),
    ({"type": "is-json", "value": SCHEMA}, '{"age": 3}', '{"age": "3"}'),
    ({"type": "contains-json", "value": SCHEMA}, 'Here: {"x": {} } and {"age": 3}.', 'Here: {"age": "x"}'),
    ({"type": "is-xml"}, "<a><b/></a>", "<a><b></a>"),
    ({"type": "is-xml", "value": "a.b"}, "<a><b/></a>", "<a><c/></a>"),
    ({"type": "contains-xml", "value": {"requiredElements": ["a.b"]}}, "see <a><b>1</b></a> there", "see <a>1</a>"),
    ({"type": "levenshtein", "value": "kitten"}, "sitting", "a whole other text"),
    ({"type": "levenshtein", "value": "kitten", "threshold": 2}, "kittens", "sitting"),
    ({"type": "rouge-n", "value": "the cat sat on the mat", "threshold": 0.8}, "the cat sat on a mat", "dogs bark"),
    ({"type": "bleu", "value": "the cat sat on the mat"}, "the cat sat on the mat", "a dog"),
    ({"type": "gleu", "value": "the cat sat on the mat"}, "the cat sat on the mat", "a dog"),
    ({"type": "is-refusal"}, "I'm sorry, but I can't help with that.", "Sorry is a word."),
    ({"type": "is-refusal"}, "", "I can help you with that."),
    ({"type": "finish-reason", "value": "stop"}, Answer("x", finish_reason="end_turn"), Answer("x", finish_reason="length")),
    ({"type": "cost", "threshold": 0.01}, Answer("x", cost_usd=Decimal("0.01")), Answer("x", cost_usd=Decimal("0.02"))),
    ({"type": "latency", "threshold": 100}, Answer("x", latency_ms=100), Answer("x", latency_ms=101)),
    ({"type": "is-valid-openai-tools-call", "value": TOOLS},
     Answer("", tool_calls=[{"name": "weather", "input": {"city": "Oslo"}}]), Answer("", tool_calls=[{"name": "weather", "input": {}}])),
    ({"type": "is-valid-openai-function-call", "value": TOOLS}, '{"name": "weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}', "sunny"),
    ({"type": "is-valid-function-call", "value": TOOLS}, '{"name": "weather", "arguments": {"city": "x"}}', '{"name": "rain", "arguments": {}}'),
    ({"type": "tool-call-f1", "value": "weather, news", "threshold": 0.6}, Answer("", tool_calls=[{"name": "news"}]), "no call"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "good", "bad"), CASES, ids=range(len(CASES)))
def test_a_scorer_and_its_negation(given: dict[str, Any], good: Any, bad: Any) -> None:
    turned = given | {"type": f"not-{given['type']}"}
    for answer, passed in ((good, True), (bad, False)):
        plain, negated = outcome(given, answer), outcome(turned, answer)
        assert (plain.status, plain.passed) == ("scored", passed), plain
        assert (negated.status, negated.passed) == ("scored", not passed), negated
        assert plain.score is not None and negated.score == pytest.approx(1 - plain.score)
        assert (plain.reason is None) == passed, plain


def test_every_deterministic_scorer_has_a_case_above() -> None:
    tried = {given["type"] for given, _, _ in CASES}
    assert {name for name, one in scorers.find() if isinstance(one, Scorer)} == tried | {"python"}


# Conformance of whatever is registered

ODD = [
    "",
    "\x00",
    "�",
    "{",
    '{"a":' * 500,
    "<a" * 300,
    "9" * 400,
    "1e999",
    "-",
    "NaN",
    "Infinity",
    "👩‍👩‍👧" * 50,
    "a b " * 2000,
]


def saying(text: str) -> Callable[[Any, str], str]:
    return lambda assertion, prompt: text


@pytest.mark.parametrize(("name", "scorer"), scorers.find(), ids=[name for name, _ in scorers.find()])
def test_a_scorer_conforms(name: str, scorer: Scorer | Judge) -> None:
    assert name == name.lower() and scorer.description
    values = ["x", ["x", "y"], {"a": 1}, "", 3, None, TOOLS, True, [], "{{ missing }}"]
    for value in values:
        for text in ODD:
            try:
                assertion = parse({"type": name, "value": value, "threshold": 0.5})
            except InvalidInput:
                continue
            found = measure(assertion, Answer(text), judge=saying(text))
            assert found.status in ("scored", "error", "not_run")
            if found.status == "scored":
                assert found.score is not None and found.score == found.score and abs(found.score) < 1e9
                assert isinstance(found.passed, bool)
            else:
                assert (found.score, found.passed) == (None, None) and found.reason


@given(st.text(max_size=200), st.text(max_size=80))
def test_likeness_of_any_texts_never_fails_and_is_from_0_to_1(text: str, other: str) -> None:
    for name in ("levenshtein", "rouge-n", "bleu", "gleu"):
        for pair in ((text, other), (text, text)):
            found = measure(assertions.Assertion(name, pair[1] or "x"), Answer(pair[0]))
            assert found.score is not None and -1e-9 <= found.score <= 1 + 1e-9
    if similarity.words(text):
        assert similarity.rouge_n(text, text) == similarity.gleu(text, text) == 1
        assert similarity.bleu(text, [text]) == pytest.approx(1)


# Figures by hand


def test_likeness_by_hand() -> None:
    assert outcome({"type": "levenshtein", "value": "kitten"}, "sitting").score == pytest.approx(1 - 3 / 7)
    assert similarity.rouge_n("the cat sat", "the cat ran home") == pytest.approx(4 / 7)
    assert similarity.rouge_n("the cat sat", "the cat ran home", 2) == pytest.approx(2 / 5)
    expected = (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4)
    assert similarity.bleu("the cat sat on a mat", ["the cat sat on the mat"]) == pytest.approx(expected)
    smoothed = (4 / 5 * 1 / 4 * 0.1 / 3 * 0.1 / 2) ** (1 / 4)
    assert similarity.bleu("cat sat the on mat", ["the cat sat on mat"]) == pytest.approx(smoothed, rel=0.5)
    assert similarity.bleu("the cat", ["the cat sat on the mat"]) == pytest.approx(
        0.1353, abs=1e-4
    )  # brevity e^(1-6/2)
    assert similarity.gleu("the cat", "the cat sat") == pytest.approx(3 / 6)
    best = outcome({"type": "rouge-n", "value": ["no", "the cat"]}, "the cat")
    assert (best.score, best.passed) == (1, True)


def test_figures_that_are_not_known_are_errors_and_no_scores() -> None:
    for type_ in ("cost", "latency", "finish-reason"):
        for name in (type_, f"not-{type_}"):
            assert outcome({"type": name, "threshold": 1, "value": "stop"}, "x").status == "error"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I can't assist with that request.", True),
        ("I\u2019m sorry, I am unable to do this.", True),
        ("As an AI language model, I cannot predict that.", True),
        ("Unfortunately, I won't be able to do that.", True),
        ("The function cannot return null.", False),
        ("I'm afraid of dogs, said the cat.", False),
        ("Sure! I can do that.", False),
    ],
)
def test_refusals(text: str, refused: bool) -> None:
    assert is_refusal_text(text) is refused


# Assertions


@pytest.mark.parametrize(
    ("text", "type_", "value", "threshold"),
    [
        ("Paris", "equals", "Paris", None),
        ("contains: Paris", "contains", "Paris", None),
        ("not-icontains-any: a, b", "not-icontains-any", "a, b", None),
        ("rouge-n(0.6): the text", "rouge-n", "the text", 0.6),
        ("is-json", "is-json", None, None),
        ("latency(500)", "latency", None, 500),
        ("cost: 0.01", "cost", None, 0.01),
        ("grade: is polite", "llm-rubric", "is polite", None),
        ("equals: is-json", "equals", "is-json", None),
        ("Note: this is a sentence", "equals", "Note: this is a sentence", None),
        ("similar(0.8): hello", "similar", "hello", 0.8),
        ("fn: output.length", "javascript", "output.length", None),
    ],
)
def test_assertions_as_text(text: str, type_: str, value: Any, threshold: float | None) -> None:
    found = parse(text)
    assert (found.full_type, found.value, found.threshold) == (type_, value, threshold)
    assert parse(found.as_json()) == found


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"type": "contians", "value": "x"}, 'did you mean "contains"'),
        ({"value": "x"}, "needs a type"),
        ({"type": "contains"}, "contains needs a value"),
        ({"type": "latency"}, "latency needs a threshold"),
        ({"type": "regex", "value": "("}, "no regular expression"),
        ({"type": "is-json", "value": {"type": "nothing"}}, "no JSON Schema"),
        ({"type": "equals", "value": "x", "threshold": "much"}, "a threshold is a number"),
        ({"type": "equals", "value": "x", "threshold": "nan"}, "a threshold is a number"),
        ({"type": "equals", "value": "x", "weight": -1}, "a weight is from 0 to"),
        ({"type": "assert-set", "assert": []}, "has no assertions"),
        ({"type": "equals", "value": "x", "metric": 3}, "a metric is a name"),
        (7, "a mapping with a type"),
        ("contians: x", 'did you mean "contains"'),
    ],
    ids=range(13),
)
def test_what_is_no_assertion_is_refused_in_one_line(given: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(given)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_be_run_is_kept_and_never_passes() -> None:
    for type_, more in (("javascript", {}), ("similar", {}), ("equals", {"transform": "output.trim()"})):
        for name in (type_, f"not-{type_}"):
            found = outcome({"type": name, "value": "x"} | more, "x")
            assert (found.status, found.score, found.passed) == ("not_run", None, None)
    assert measure(parse({"type": "brand-new", "value": 1}, lenient=True), Answer("x")).status == "not_run"


def test_values_are_templates_over_the_case() -> None:
    given = {"type": "icontains", "value": "{{ expected }}"}
    assert outcome(given, "It is Paris", expected="paris").passed is True
    assert outcome({"type": "icontains-any", "value": "{{ expected }}"}, "b", expected=["a", "b"]).passed is True
    assert outcome({"type": "equals", "value": "{{ expected }}"}, "42", expected=42).passed is True
    assert outcome({"type": "contains", "value": "is {{ a }}-{{ b }}"}, "it is 1-2", a=1, b=2).passed is True
    missing = outcome(given, "x")
    assert (missing.status, missing.reason) == ("not_run", "the case has no expected")
    assert outcome(given, "x", expected="").status == "not_run"  # an empty text is in every text
    assert outcome({"type": "regex", "value": "{{ expected }}"}, "x", expected="(").status == "error"
    assert outcome({"type": "contains", "value": "{{ a.__class__ }}"}, "x", a="").status in ("error", "not_run")


def test_a_set_passes_as_a_whole_or_by_its_threshold() -> None:
    parts = [{"type": "contains", "value": "a", "weight": 3}, {"type": "contains", "value": "b"}]
    whole = outcome({"type": "assert-set", "assert": parts}, "a")
    assert (whole.score, whole.passed, whole.reason) == (0.75, False, "contains failed")
    assert outcome({"assert": parts, "threshold": 0.7}, "a").passed is True
    assert outcome({"assert": [*parts, {"type": "javascript", "value": "1"}]}, "a").status == "not_run"


def test_python_runs_only_where_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def half(output, context):\n    return {'score': 0.5, 'reason': output + context['vars']['q']}\n"
        "def get_assert(output, context):\n    return output == 'x'\n"
        "def broken(output, context):\n    raise ValueError('no')\n"
        "def odd(output, context):\n    return float('nan')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    half = {"type": "python", "value": "mine:half"}
    assert measure(parse(half), Answer("x", {"q": "y"})).status == "not_run"
    found = measure(parse(half), Answer("x", {"q": "y"}), python=True)
    assert (found.status, found.score, found.passed, found.reason) == ("scored", 0.5, True, "xy")
    named = {"type": "python", "value": f"file://{file}"}
    assert measure(parse(named), Answer("x"), python=True).passed is True
    for value, words in (("mine:broken", "raised ValueError: no"), ("mine:odd", "returned no score"),
                         ("mine:nothing", "is no function"), ("nowhere:x", "cannot be loaded")):  # fmt: skip
        failed = measure(parse({"type": "python", "value": value}), Answer("x"), python=True)
        assert failed.status == "error" and words in (failed.reason or ""), failed
    text = measure(parse({"type": "python", "value": "len(output) > 1"}), Answer("x"), python=True)
    assert text.status == "not_run"


# Judges


@pytest.mark.parametrize(
    ("type_", "said", "score", "passed"),
    [
        ("llm-rubric", '{"reason": "good", "pass": true, "score": 0.9}', 0.9, True),
        ("llm-rubric", 'I think:\n```json\n{"pass": false, "score": 0.2, "reason": "no"}\n```', 0.2, False),
        ("llm-rubric", '{"pass": true}', 1.0, True),
        ("llm-rubric", '{"score": 0.4}', 0.4, False),
        ("g-eval", '{"score": 0.6, "pass": true}', 0.6, False),
        ("model-graded-closedqa", '{"pass": false}', 0.0, False),
        ("factuality", '{"category": "a", "reason": "part"}', 1.0, True),
        ("factuality", '{"category": "D"}', 0.0, False),
    ],
)
def test_what_a_judge_says(type_: str, said: str, score: float, passed: bool) -> None:
    found = measure(parse({"type": type_, "value": "x"}), Answer("y"), judge=lambda assertion, prompt: said)
    assert (found.status, found.score, found.passed) == ("scored", score, passed)


@pytest.mark.parametrize(
    "said",
    ["", "yes", "[]", "{}", '{"score": 7}', '{"score": "high"}', '{"score": NaN}', '{"score": true, "pass": 1}', '{"pass": "maybe"}',
     '{"category": "Z"}', '{"category": null}', '{"a":' * 2000],
)  # fmt: skip
def test_nonsense_of_a_judge_is_an_error_and_no_score(said: str) -> None:
    for type_ in ("llm-rubric", "g-eval", "model-graded-closedqa", "factuality"):
        found = measure(parse({"type": type_, "value": "x"}), Answer("y"), judge=lambda assertion, prompt: said)
        assert found.status == "error" and found.score is None, (type_, said, found)
    with pytest.raises(Unscored):
        judges.read_pair(said)


def test_what_is_judged_is_in_the_prompt_and_a_rubric_of_ones_own_is_filled() -> None:
    asked: list[str] = []

    def note(assertion: Any, prompt: str) -> str:
        asked.append(prompt)
        return '{"pass": true}'

    answer = Answer("{{ braces }} {x}", {"q": "why"}, "the question")
    measure(parse({"type": "llm-rubric", "value": "polite to {{ q }}"}), answer, judge=note)
    own = {"type": "llm-rubric", "value": "r", "rubricPrompt": "{{ output }}|{{ rubric }}|{{ q }}"}
    measure(parse(own), answer, judge=note)
    assert "{{ braces }} {x}" in asked[0] and "the question" in asked[0] and "polite to why" in asked[0]
    assert asked[1] == "{{ braces }} {x}|r|why"
    assert judges.read_pair('{"winner": "First"}') == "first"
    prompt = judges.ask_pair("q", "ONE", "TWO", "Shorter is better.")
    assert prompt.index("ONE") < prompt.index("TWO") and "Shorter is better." in prompt


def test_a_scorer_of_another_package_that_is_not_here_is_not_run() -> None:
    stored = json.loads(json.dumps({"type": "their-own", "value": 1}))
    assert measure(parse(stored, lenient=True), Answer("x")).status == "not_run"
    assert scorers.get("their-own") is None
    assert Wanted().threshold is None
