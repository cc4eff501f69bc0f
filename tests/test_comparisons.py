"""Comparisons in the library: definitions, cases, running, growing, scoring again, verdicts, votes, what is bad."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmsess import batches, comparisons, db, sessions
from llmsess.comparisons import answering, cases, gates, judging, scheduling, specs, viewing
from llmsess.errors import Conflict, InvalidInput, NotFound
from llmsess.models import ComparisonResult, ComparisonVote, Session
from tests.server import ChatServer

Script = Callable[..., str]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Write a script of answers by prompt, and return the model's reference."""

    def write(name: str, answers: dict[str, Any]) -> str:
        entries = [
            {"prompt": prompt} | (answer if isinstance(answer, dict) else {"content": answer})
            for prompt, answer in answers.items()
        ]
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(entries))
        return f"scripted/{path}"

    return write


def spec(name: str = "c", models: Any = ("echo/a", "echo/b"), **more: Any) -> dict[str, Any]:
    variants = [{"name": model.split("/")[-1][-12:], "model": model} for model in models]
    return {"name": name, "variants": variants, "prompt": "{{ q }}", "cases": [{"q": "x", "expected": "x"}]} | more


def cells(name: str = "c") -> list[viewing.Cell]:
    return list(comparisons.stream_cells(comparisons.get(name)))


# The whole way


def test_a_comparison_from_its_definition_to_its_verdict(database: db.Database, script: Script) -> None:
    asked = [{"q": f"q{n}", "expected": f"a{n}"} for n in range(12)]
    good = script("good", {f"q{n}": f"a{n}" for n in range(12)})
    bad = script("bad", {f"q{n}": f"a{n}" if n < 2 else "no" for n in range(12)})
    report = comparisons.run({
        "name": "first", "variants": [{"name": "old", "model": bad}, {"name": "new", "model": good}], "prompt": "{{ q }}",
        "cases": asked, "scorers": [{"type": "equals", "value": "{{ expected }}"}],
    })  # fmt: skip
    assert (report.status, report.group.status) == ("done", "done")
    assert report.scored is not None and (report.scored.answers, report.scored.scored) == (24, 24)
    found = comparisons.summary("first")
    (one,) = found.verdicts
    assert (one.metric, one.baseline, one.variant, one.n, one.test) == ("equals", "old", "new", 12, "McNemar exact")
    assert (one.verdict, one.wins, one.losses, one.ties) == ("better", 10, 0, 2)
    assert one.difference == pytest.approx(10 / 12) and one.p == pytest.approx(2 / 2**10)
    assert one.sentence.startswith("new is better than old by 83.3 points (95% ")
    assert one.sentence.endswith("n=12, p=0.002)")
    types = {row.session_type for row in Session.select()}
    assert types == {"comparison"}


def test_nothing_is_asked_twice_and_what_is_new_is_added(database: db.Database) -> None:
    first = comparisons.run(spec(repeats=1))
    assert first.batch.job.calls == 2
    again = comparisons.run(spec(repeats=1))
    assert again.batch.job.calls == 2
    more = spec(repeats=2, cases=[{"q": "x", "expected": "x"}, {"q": "y"}])
    more["variants"].append({"name": "c", "model": "echo/c"})
    assert comparisons.run(more).batch.job.calls == 3 * 2 * 2
    assert comparisons.run("c").batch.job.calls == 12
    assert len(cells()) == 12 and {cell.status for cell in cells()} == {"answered"}


def test_what_is_gone_from_a_definition_counts_no_more_and_comes_back_without_a_call(database: db.Database) -> None:
    whole = spec(cases=[{"q": "x"}, {"q": "y"}], repeats=2)
    comparisons.run(whole)
    smaller = comparisons.run(spec(models=["echo/a"], cases=[{"q": "x"}], baseline="a"))
    assert [(cell.variant, cell.content, cell.repeat) for cell in cells()] == [("a", "x", 0)]
    assert (smaller.status, smaller.batch.job.calls) == ("done", 8)
    assert [one.name for one in comparisons.variants_of(smaller.group)] == ["a"]
    assert comparisons.summary("c").notes == ("7 answers of earlier definitions are kept, and not counted",)
    again = comparisons.run(whole)
    assert (again.batch.job.calls, len(cells()), {cell.status for cell in cells()}) == (8, 8, {"answered"})


def test_what_is_gone_before_it_was_asked_is_not_asked(database: db.Database) -> None:
    comparisons.plan(spec(cases=[{"q": str(n)} for n in range(4)], repeats=3))
    assert batches.status("compare/c").total == 24
    report = comparisons.run(spec(cases=[{"q": "1"}]))
    assert (report.batch.job.calls, report.status, report.batch.job.counts["cancelled"]) == (2, "done", 22)
    assert comparisons.run(spec(cases=[{"q": "1"}, {"q": "2"}])).batch.job.calls == 4


def test_a_refused_definition_changes_nothing(database: db.Database) -> None:
    comparisons.run(spec())
    for changed in (
        {"repeats": 50, "limits": {"budget_usd": 1}},
        {"limits": {"rpn": 1}},
        {"prompt": "{{ q }} {{ z }}"},
    ):
        with pytest.raises((InvalidInput, Conflict)):
            comparisons.run(spec() | changed)
    assert comparisons.run("c").batch.job.calls == 2 and len(cells()) == 2


def test_a_changed_prompt_is_asked_and_the_former_answers_come_back_with_it(database: db.Database) -> None:
    first = spec(scorers=["starts-with: Please"])
    comparisons.run(first)
    pair = comparisons.Pair(comparisons.cases_of(comparisons.get("c"))[0], cells()[0], cells()[1])
    comparisons.cast(comparisons.get("c"), pair, "a", "ann")
    changed = comparisons.run(first | {"prompt": "Please: {{ q }}"})
    assert (changed.batch.job.calls, [cell.content for cell in cells()]) == (4, ["Please: x"] * 2)
    assert [cell.passed for cell in cells()] == [True, True] and comparisons.votes(changed.group) == []
    back = comparisons.run(first)
    assert (back.batch.job.calls, [cell.content for cell in cells()]) == (4, ["x", "x"])
    assert [cell.passed for cell in cells()] == [False, False] and len(comparisons.votes(back.group)) == 1


def test_the_order_of_variants_and_cases_is_that_of_the_definition(database: db.Database) -> None:
    comparisons.run(spec("o", cases=[{"q": "1"}, {"q": "2"}]))
    comparisons.run(spec("o", cases=[{"q": "0"}, {"q": "2"}, {"q": "1"}]))
    assert [case.variables["q"] for case in comparisons.cases_of(comparisons.get("o"))] == ["0", "2", "1"]
    comparisons.run(spec())
    comparisons.run(spec(models=["echo/c", "echo/b", "echo/a"]))
    found = comparisons.summary("c")
    assert ([side.variant.name for side in found.sides], found.baseline) == (["c", "b", "a"], "c")


def test_a_corrected_expectation_needs_no_new_answer(database: db.Database) -> None:
    checks = [{"type": "equals", "value": "{{ expected }}"}]
    comparisons.run(spec(cases=[{"q": "x", "expected": "y"}], scorers=checks))
    assert [cell.passed for cell in cells()] == [False, False]
    report = comparisons.run(spec(cases=[{"q": "x", "expected": "x"}], scorers=checks))
    assert report.batch.job.calls == 2
    assert [cell.passed for cell in cells()] == [True, True]


def test_repeats_share_the_cache_by_their_number(database: db.Database, server: ChatServer, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    from llmsess import catalog

    catalog.add_model("openai/echo", base_url=server.url)
    one = {"models": ["openai/echo"], "prompt": "hi", "repeats": 3, "cache": True}
    assert comparisons.run({"name": "one", **one}).batch.job.calls == 3
    assert comparisons.run({"name": "two", **one}).batch.job.calls == 0
    assert comparisons.run({"name": "three", **one, "repeats": 4}).batch.job.calls == 1
    assert server.calls()["hi"] == 4
    assert [cell.content for cell in cells("two")] == ["hi"] * 3
    assert batches.run(batches.create("alone", ["hi"], model="openai/echo", cache=True)).job.calls == 0


def test_scoring_again_makes_no_calls_and_takes_the_place_of_what_was(database: db.Database) -> None:
    comparisons.run(spec(scorers=["contains: x"]))
    calls = batches.status("compare/c").calls
    done = comparisons.score("c", new=["equals: x", {"type": "contains", "value": "z", "metric": "zed"}])
    assert (done.answers, done.scored, done.asked) == (2, 4, 0)
    assert batches.status("compare/c").calls == calls
    assert comparisons.summary("c").metrics == ("pass", "equals", "zed")
    assert ComparisonResult.select().count() == 4
    assert [(cell.score, cell.passed) for cell in cells()] == [(0.5, False)] * 2


def test_weights_thresholds_and_sets(database: db.Database) -> None:
    checks = [
        {"type": "contains", "value": "x", "weight": 3},
        {"type": "contains", "value": "z"},
        {"type": "contains", "value": "z", "weight": 0, "metric": "told"},
        {"type": "assert-set", "weight": 0, "assert": [{"type": "equals", "value": "x", "metric": "inner"}]},
    ]
    comparisons.run(spec(cases=[{"vars": {"q": "x"}, "threshold": 0.7}, {"q": "x2"}], scorers=checks))
    assert [(cell.score, cell.passed) for cell in cells()] == [(0.75, True)] * 2 + [(0.75, False)] * 2
    assert comparisons.summary("c").metrics == ("pass", "contains", "told", "assert-set", "inner")
    assert [(one.metric, one.weight) for one in cells()[0].results if one.metric == "inner"] == [("inner", 0)]


def test_a_derived_metric_is_a_formula_over_the_others(database: db.Database) -> None:
    derived = [{"name": "share", "value": "contains / __count"}, {"name": "twice", "value": "share * 2"},
               {"name": "odd", "value": "contains / 0"}, {"name": "none", "value": "nothing + 1"}]  # fmt: skip
    comparisons.run(spec(scorers=["contains: x"], derived=derived, repeats=2))
    assert comparisons.summary("c").sides[0].derived == {"share": 1.0, "twice": 2.0, "odd": None, "none": None}


# Definitions


def test_lists_of_parts_are_crossed(database: db.Database) -> None:
    read = specs.read({
        "name": "x", "models": ["echo/a", "echo/b"], "prompts": ["{{ q }}", "Please {{ q }}"], "systems": ["Be kind."],
        "parameters": [{"temperature": 0}, {"temperature": 1}], "cases": [{"q": ["1", "2"], "r": ["a", "b"], "expected": ["k", "l"]}],
    })  # fmt: skip
    assert len(read.variants) == 8 and len(read.cases) == 4 and read.cells == 32
    assert read.variants[3].name == "echo/a, prompt 2, parameters 2"
    assert read.variants[3].parameters == {"temperature": 1} and read.variants[3].system == "Be kind."
    assert [(case.variables["q"], case.variables["r"]) for case in read.cases] == [
        ("1", "a"),
        ("1", "b"),
        ("2", "a"),
        ("2", "b"),
    ]
    assert read.cases[0].variables["expected"] == ["k", "l"]


def test_a_definition_is_read_from_yaml_and_json_and_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("q,expected\na,1\n")
    (tmp_path / "p.txt").write_text("Say {{ q }}")
    text = (
        "name: x\nvariants:\n  - {name: a, model: echo/a}\nprompt: file://p.txt\ncases: cases.csv\nscorers: [is-json]\n"
    )
    (tmp_path / "spec.yaml").write_text(text)
    read = specs.read(tmp_path / "spec.yaml")
    assert (read.variants[0].prompt, read.cases[0].variables) == ("Say {{ q }}", {"q": "a", "expected": "1"})
    assert read.text == text and len(read.sha256) == 64
    assert specs.read(json.dumps(spec())).name == "c"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"variants": []}, "no variants"),
        ({"cases": []}, "no cases"),
        ({"name": None}, "needs a name"),
        ({"name": "@x"}, "is no name"),
        ({"baseline": "nobody"}, 'the baseline "nobody" is no variant'),
        ({"repeats": 0}, "repeats is a number from 1"),
        ({"repeats": True}, "repeats is a number from 1"),
        ({"variants": [{"name": "a"}]}, "needs a model"),
        ({"variants": [{"name": "a", "model": "echo/a"}] * 2}, "two variants are called a"),
        ({"variants": [{"name": "a", "model": "echo/a", "promt": "x"}]}, "a variant has no promt"),
        ({"variants": "echo/a"}, "variants is a list"),
        ({"scorer": []}, 'a comparison has no "scorer"; did you mean "scorers"'),
        ({"scorers": ["contians: x"]}, 'did you mean "contains"'),
        ({"cases": 7}, "cases are a list"),
        ({"cases": [7]}, "case 1: a case is a mapping or a text"),
        ({"cases": "nothing.csv"}, "there is no file"),
        ({"cases": [{"q": []}]}, "an empty list"),
        ({"prompt": "{{ other }}"}, "the prompt needs other, the case has q, expected"),
        ({"prompt": "{{ q"}, "the template is wrong"),
        ({"prompt": "{{ q.__class__ }}"}, "cannot be filled"),
        ({"prompt": None, "cases": [{"word": "x"}]}, "there is no prompt: the case has word"),
        ({"prompt": "{{ q }}", "cases": [{"q": " "}]}, "its prompt is empty"),
        ({"variants": [{"name": "a", "model": "nobody/x"}]}, 'no provider "nobody"'),
        ({"judge": "nobody/x"}, 'no provider "nobody"'),
        ({"limits": {"rpn": 3}}, "a batch has no rpn"),
        ({"derived": [{"name": "x"}]}, "a derived metric has a name and a value"),
        ({"repeats": 1000, "cases": [{"q": str(n)} for n in range(501)]}, "too many for one comparison"),
        ({"threshold": "abc"}, "a threshold is a number"),
        ({"threshold": float("nan")}, "a threshold is a number"),
        ({"threshold": True}, "a threshold is a number"),
        ({"variants": [{"name": "a", "model": "echo/a", "parameters": [1]}]}, "parameters are a mapping"),
        ({"limits": {"3": 3}}, "a batch has no 3"),
        ({"scorers": [{"type": "assert-set", "assert": 5}]}, "a list"),
        ({"scorers": [{"type": "equals", "value": "x", "weight": 1e308}]}, "a weight is from 0 to"),
        ({"scorers": ["is-jsn"]}, 'did you mean "is-json"'),
        ({"scorers": [""]}, "an empty text is no assertion"),
        ({"scorers": [{"type": "equals", "value": "x", "metric": "pass"}]}, "the metric of whether all holds"),
        ({"scorers": ["contains-all: "]}, "needs a value"),
        ({"cases": [{"vars": {"q": "x"}, "assert": "foo"}]}, "assert is a list"),
        ({"cases": [{"vars": {"q": "x"}, "description": [5]}]}, "a description is a text"),
        ({"cases": [{"vars": {"q": "x"}, "metadata": "foo"}]}, "metadata a mapping"),
        ({"cases": [{"vars": {"q": "x"}, "threshold": [1]}]}, "a threshold is a number"),
        ({"cluster": "expcted"}, 'to cluster by; did you mean "expected"'),
        ({"limits": {"budget_usd": 1}}, "has no price"),
    ],
    ids=range(44),
)
def test_what_is_no_definition_is_refused_in_one_line_and_leaves_nothing(
    database: db.Database, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        comparisons.run(spec() | changed)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert comparisons.count() == 0 == batches.count()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [\n", "no YAML"),
        ("- a\n- b\n", "a comparison is a mapping"),
        ("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
         "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
         "g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n", "grows beyond any use"),
        ("name: !!python/object/apply:os.system ['true']\n", "no YAML"),
        ("a: " + "[" * 3000 + "\n", "no YAML"),
    ],
    ids=range(5),
)  # fmt: skip
def test_a_text_that_is_no_definition_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        specs.read(text)


def test_the_same_yaml_may_use_anchors() -> None:
    read = specs.read("name: x\nvariants:\n  - &v {name: a, model: echo/a}\n  - {<<: *v, name: b}\nprompt: hi\n")
    assert [variant.name for variant in read.variants] == ["a", "b"]


# Cases


def rows(source: Any, base: Path = Path()) -> list[cases.Case]:
    return list(cases.distinct(list(cases.read(source, base))))


def test_cases_are_known_by_what_they_say_and_count_once(database: db.Database) -> None:
    one, two, three = {"q": "a", "expected": "1"}, {"q": "b"}, {"q": "a", "expected": "2"}
    assert [case.key for case in rows([one, two])] == [case.key for case in rows([two, one])][::-1]
    assert len(rows([one, two, one])) == 2
    assert len(rows([one, three])) == 2  # they expect different things
    report = comparisons.run(spec(cases=[one, one, two]))
    assert len(cells()) == 4
    assert report.group.notes == ["1 case asks what another asks, and count once with it"]


def test_samples_of_openai_evals(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}], "ideal": "4"},
        {"input": "Capital of France?", "ideal": ["Paris", "paris"], "topic": "geo"},
    ]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, lines)))
    first, second = rows("s.jsonl", tmp_path)
    assert cases.default_prompt(first) == lines[0]["input"] and first.variables == {"expected": "4"}
    assert cases.default_prompt(second) == "Capital of France?"
    assert second.variables == {"input": "Capital of France?", "topic": "geo", "expected": ["Paris", "paris"]}


def test_inspect_datasets(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"id": 7, "input": "Which is red?", "choices": ["sky", "blood"], "target": "B", "metadata": {"hard": False}},
        {"input": [{"role": "user", "content": "Hi"}], "target": "Hello"},
    ]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, lines)))
    first, second = rows("d.jsonl", tmp_path)
    asked = cases.default_prompt(first)
    assert isinstance(asked, str) and asked.startswith("Which is red?\n\nA) sky\nB) blood\n\n")
    assert (first.variables["expected"], first.metadata) == ("B", {"hard": False, "id": 7})
    assert cases.default_prompt(second) == [{"role": "user", "content": "Hi"}]
    (tmp_path / "d.csv").write_text("input,target\nHow?,So.\n")
    assert rows("d.csv", tmp_path)[0].variables == {"input": "How?", "expected": "So."}
    (tmp_path / "d.json").write_text(json.dumps(lines))
    assert len(rows("d.json", tmp_path)) == 2


def test_messages_go_as_they_stand_and_inspect_and_evals_run_unchanged(database: db.Database, tmp_path: Path) -> None:
    sample = {
        "input": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three"},
        ],
        "ideal": "three",
    }
    (tmp_path / "s.jsonl").write_text(json.dumps(sample))
    comparisons.run(
        {"name": "s", "models": ["echo/a"], "cases": str(tmp_path / "s.jsonl"), "scorers": ["equals: {{ expected }}"]}
    )
    (cell,) = cells("s")
    assert (cell.content, cell.passed) == ("three", True)
    assert [message.content for message in sessions.path(cell.session or "")] == ["one", "two", "three", "three"]


def test_stored_messages_are_cases(database: db.Database) -> None:
    sessions.append(sessions.create("s"), "user", "what is it?")
    found = [{"vars": {"prompt": row.value["prompt"]}} for row in batches.stored() if row.value]
    comparisons.run({"name": "x", "models": ["echo/a", "echo/b"], "cases": found})
    assert [cell.content for cell in cells("x")] == ["what is it?"] * 2


# What goes wrong


def test_answers_that_fail_are_counted_apart_and_asked_again_when_wanted(database: db.Database, script: Script) -> None:
    wrong = {"error": {"kind": "bad_request", "status": 400}}
    model = script("half", {"q1": "a1", "q2": wrong})
    value = spec("f", ["echo/a", model], cases=[{"q": "q1"}, {"q": "q2"}], scorers=["contains: 1"])
    report = comparisons.run(value)
    assert (report.status, report.group.status) == ("some_failed", "done")
    found = comparisons.summary("f")
    assert (found.cells, found.answered, found.failed) == (4, 3, 1)
    (one,) = found.verdicts
    assert (one.n, one.missing, one.errors, one.verdict) == (1, 1, 1, "not_enough")
    assert found.sides[1].metrics[0].errors == 1 and found.sides[1].metrics[0].mean == 1.0
    script("half", {"q1": "a1", "q2": "a2"})
    assert comparisons.run("f", retry=True).status == "done"
    assert [cell.content for cell in cells("f")] == ["q1", "a1", "q2", "a2"]


def test_all_answers_of_a_variant_missing(database: db.Database, script: Script) -> None:
    comparisons.run(spec("m", ["echo/a", "scripted/none.json"], scorers=["contains: x"]))
    found = comparisons.summary("m")
    (one,) = found.verdicts
    assert (one.n, one.verdict, one.p, one.difference) == (0, "not_enough", None, None)
    assert found.sides[1].metrics[0].mean is None and found.sides[1].figures["latency_ms"].median is None
    assert "no case has a score of both" in one.sentence


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_cases_say_so(database: db.Database, script: Script, count: int) -> None:
    asked = [{"q": f"q{n}"} for n in range(max(count, 1))]
    good = script("good", {f"q{n}": "yes" for n in range(count)})
    comparisons.run(spec("n", ["echo/a", good], cases=asked, scorers=["contains: yes"]))
    (one,) = comparisons.summary("n").verdicts
    assert (one.n, one.verdict) == (count, "not_enough")
    assert one.sentence.startswith("No evidence of a difference") and "nan" not in one.sentence.lower()


def test_no_variance_is_no_evidence(database: db.Database) -> None:
    comparisons.run(spec("z", cases=[{"q": f"x{n}"} for n in range(20)], scorers=["contains: x"]))
    (one,) = comparisons.summary("z").verdicts
    assert (one.verdict, one.n, one.difference, one.p) == ("no_evidence", 20, 0, 1)
    assert one.low is not None and one.low < 0 < (one.high or 0)
    assert one.sentence == "No evidence of a difference: b vs a (n=20, p=1; could have detected 30.0 points)"


def test_one_variant_has_figures_and_no_verdict(database: db.Database) -> None:
    comparisons.run(spec("o", ["echo/a"], scorers=["contains: x"]))
    found = comparisons.summary("o")
    assert found.verdicts == () and found.sides[0].metrics[0].mean == 1


def test_a_case_without_an_expected_value_is_not_run_and_never_passes(database: db.Database) -> None:
    asked = [{"q": "x", "expected": "x"}, {"q": "y"}]
    comparisons.run(spec("e", cases=asked, scorers=["equals: {{ expected }}", "contains: x"]))
    assert [cell.passed for cell in cells("e")] == [True, True, False, False]
    found = comparisons.summary("e")
    assert found.metrics == ("pass", "equals", "contains")
    passing = found.sides[0].metrics[0]
    assert (passing.n, passing.mean, passing.not_run) == (1, 1.0, 1)  # not 0.5: only failures would be known of y


def test_a_scorer_that_throws_is_an_error_of_its_own(database: db.Database, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "thrower.py").write_text("def boom(output, context):\n    return 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    comparisons.run(spec("t", scorers=["python: thrower:boom", "contains: x"]), python=True)
    (first, *_) = cells("t")
    assert [(one.outcome, one.passed) for one in first.results] == [("error", None), ("scored", True)]
    assert (first.score, first.passed) == (1.0, None)
    metric = comparisons.summary("t").sides[0].metrics[1]
    assert (metric.metric, metric.mean, metric.errors) == ("python", None, 1)


def test_a_deleted_answer_is_said_to_be_deleted(database: db.Database) -> None:
    comparisons.run(spec("d", scorers=["contains: x"]))
    sessions.delete(cells("d")[0].session or "")
    assert [(cell.status, cell.error) for cell in cells("d")] == [
        ("failed", "the answer was deleted"),
        ("answered", None),
    ]
    assert comparisons.summary("d").failed == 1


def test_a_deleted_answer_is_asked_for_again_when_wanted(database: db.Database) -> None:
    comparisons.run(spec("d"))
    sessions.delete(cells("d")[0].session or "")
    assert comparisons.run("d").batch.job.calls == 2
    assert comparisons.run("d", retry=True).batch.job.calls == 3
    assert [cell.content for cell in cells("d")] == ["x", "x"]


def test_what_was_never_asked_is_waiting(database: db.Database) -> None:
    comparisons.plan(spec("w"))
    assert [(cell.status, cell.error) for cell in cells("w")] == [("waiting", None)] * 2


def test_a_metric_of_which_a_part_was_not_run_has_no_score(database: db.Database) -> None:
    checks = [
        {"type": "contains", "value": "x", "metric": "m"},
        {"type": "python", "value": "os:getcwd", "metric": "m"},
    ]
    comparisons.run(spec("p", cases=[{"q": f"x{n}"} for n in range(8)], scorers=checks))
    found = comparisons.summary("p")
    one = next(metric for metric in found.sides[0].metrics if metric.metric == "m")
    assert (one.n, one.mean, one.not_run) == (0, None, 8)
    assert [verdict.n for verdict in found.verdicts] == [0, 0]
    assert not gates.check(found, ["m<0.1"])[0].holds


@pytest.mark.parametrize("expected", [[], "", " ", ["", " "], None])
def test_an_empty_expectation_is_not_run(database: db.Database, expected: Any) -> None:
    case = {"q": "x"} | ({} if expected is None else {"expected": expected})
    checks = [
        {"type": kind, "value": "{{ expected }}"} for kind in ("contains", "icontains-all", "contains-any", "equals")
    ]
    comparisons.run(
        spec("e", cases=[case], scorers=[*checks, {"type": "contains-any", "value": ["zz", "{{ expected }}"]}])
    )
    results = cells("e")[0].results
    assert [one.outcome for one in results[:4]] == ["not_run"] * 4 and results[4].passed is not True


def test_several_expected_values_are_right_each(database: db.Database) -> None:
    checks = [f"{kind}: {{{{ expected }}}}" for kind in ("equals", "contains", "icontains", "starts-with")]
    comparisons.run(
        spec("l", ["echo/a"], cases=[{"vars": {"q": "Paris"}}, {"vars": {"q": "Rome"}}], scorers=["contains: a"])
    )
    asked = [{"input": "Paris", "ideal": ["Lutetia", "Paris"]}, {"input": "Rome", "ideal": ["Lutetia", "Paris"]}]
    comparisons.run({"name": "s", "models": ["echo/a"], "cases": asked, "scorers": checks})
    assert [[one.passed for one in cell.results] for cell in cells("s")] == [[True] * 4, [False] * 4]


def test_the_order_of_equal_cases_does_not_matter(database: db.Database) -> None:
    one, two = {"q": "x", "expected": "1"}, {"q": "x", "expected": "2"}
    comparisons.run(spec("o", cases=[one, two], scorers=["equals: {{ expected }}"]))
    report = comparisons.run(spec("o", cases=[two, one], scorers=["equals: {{ expected }}"]))
    assert (report.batch.job.calls, len(cells("o"))) == (4, 4)


def test_uneven_repeats_are_one_series(database: db.Database, script: Script) -> None:
    comparisons.run(spec("u", ["echo/a"], cases=[{"q": "x"}, {"q": "y"}], repeats=2, scorers=["contains: x"]))
    sessions.delete(cells("u")[1].session or "")
    side = comparisons.summary("u").sides[0].metrics[0]
    assert (side.pass_at, side.pass_all) == ({1: 0, 2: 0}, {1: 0, 2: 0})  # of y alone, of which both are known


def test_repeats_that_failed_are_said(database: db.Database) -> None:
    comparisons.run(spec("r", cases=[{"q": f"x{n}"} for n in range(7)], repeats=2, scorers=["contains: x"]))
    sessions.delete(cells("r")[0].session or "")
    (one,) = comparisons.summary("r").verdicts
    assert (one.n, one.missing, one.partial) == (7, 0, 1) and "; 1 with fewer repeats)" in one.sentence


# What a definition may reach


def test_files_of_scorers_are_beside_the_definition_and_data_opens_none(database: db.Database, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "want.txt").write_text("x\n")
    (folder / "mine.py").write_text("def good(output, context):\n    return output == 'x'\n")
    (tmp_path / "secret.txt").write_text("secret")
    text = "name: f\nmodels: [echo/a]\nprompt: '{{ q }}'\ncases: [{q: x}]\nscorers:\n"
    (folder / "s.yaml").write_text(
        text + "  - {type: equals, value: file://want.txt}\n  - {type: python, value: file://mine.py:good}\n"
    )
    comparisons.run(folder / "s.yaml", python=True)
    assert [one.passed for one in cells("f")[0].results] == [True, True]
    for changed in (
        "  - {type: equals, value: file://../secret.txt}\n",
        "  - equals: x\nprompt: file://../secret.txt\n",
    ):
        (folder / "o.yaml").write_text((text + changed).replace("prompt: '{{ q }}'\n", "", changed.count("prompt")))
        with pytest.raises(InvalidInput, match="lies outside"):
            comparisons.run(folder / "o.yaml")
    for named in ("../secret.txt", str(tmp_path / "secret.txt"), "file://../secret.txt", "link.txt"):
        (folder / "link.txt").unlink(missing_ok=True)
        (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
        (folder / "c.yaml").write_text(f"name: c\nmodels: [echo/a]\ncases: {named}\n")
        with pytest.raises(InvalidInput, match="lies outside"):
            comparisons.run(folder / "c.yaml")
    (folder / "data.jsonl").write_text(
        '{"vars": {"q": "file://../secret.txt"}, "assert": [{"type": "equals", "value": "file://want.txt"}]}\n'
    )
    comparisons.run({"name": "d", "models": ["echo/a"], "prompt": "{{ q }}", "cases": str(folder / "data.jsonl")})
    assert [cell.content for cell in cells("d")] == ["file://../secret.txt"]


def test_no_case_says_which_python_runs(database: db.Database) -> None:
    comparisons.run(
        spec("p", cases=[{"q": "x", "expected": "builtins:exec"}], scorers=["python: {{ expected }}"]), python=True
    )
    assert [one.outcome for cell in cells("p") for one in cell.results] == ["not_run", "not_run"]


def test_a_scorer_that_leaves_or_prints_or_never_ends_costs_no_other(
    database: db.Database, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    (tmp_path / "odd.py").write_text(
        "import sys\ndef leave(output, context):\n    sys.exit(0)\ndef huge(output, context):\n    return 1e308\n"
        "def talk(output, context):\n    print('noise')\n    return True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    checks = ["python: odd:leave", "python: odd:huge", "python: odd:talk", {"type": "regex", "value": "^(a|aa)+$"}]
    comparisons.run(spec("o", ["echo/a"], cases=[{"q": "a" * 60 + "!"}], scorers=checks), python=True)
    found = [(one.outcome, (one.reason or "")[:40]) for one in cells("o")[0].results]
    assert [outcome for outcome, _ in found] == ["error", "error", "scored", "error"]
    assert "SystemExit" in found[0][1] and capsys.readouterr().out == ""
    assert cells("o")[0].results[3].reason == "the regular expression takes more than 2 s"


# Verdicts


def test_scores_between_0_and_1_are_compared_by_changing_signs(database: db.Database, script: Script) -> None:
    truth = "the quick brown fox jumps"
    asked = [{"q": f"q{n}", "expected": truth} for n in range(10)]
    words = truth.split()
    near = script("near", {f"q{n}": " ".join(words[: 3 + n % 3]) for n in range(10)})
    far = script("far", {f"q{n}": " ".join(words[: 1 + n % 2]) for n in range(10)})
    comparisons.run(spec("r", [far, near], cases=asked, scorers=[{"type": "rouge-n", "value": "{{ expected }}"}]))
    (one,) = comparisons.summary("r").verdicts
    assert (one.test, one.verdict, one.n) == ("permutation (exact)", "better", 10)
    assert one.effect_name == "Cohen's d" and one.p == pytest.approx(2 / 2**10)


def test_repeats_are_no_further_cases_and_give_pass_at_k(database: db.Database) -> None:
    comparisons.run(spec("k", cases=[{"q": f"x{n}"} for n in range(4)], repeats=3, scorers=["contains: x1"]))
    side = comparisons.summary("k").sides[0].metrics[0]
    assert (side.n, side.mean, side.passed, side.failed) == (4, 0.25, 3, 9)
    assert side.pass_at == {1: 0.25, 2: 0.25, 3: 0.25} and side.pass_all == {1: 0.25, 2: 0.25, 3: 0.25}


def test_clusters_are_asked_for_by_name(database: db.Database, script: Script) -> None:
    asked = [{"q": f"q{n}", "topic": f"t{n % 4}"} for n in range(16)]
    good = script("good", {f"q{n}": "yes" if n % 5 else "no" for n in range(16)})
    comparisons.run(spec("g", ["echo/a", good], cases=asked, cluster="topic", scorers=["contains: yes"]))
    (one,) = comparisons.summary("g").verdicts
    assert (one.test, one.n) == ("permutation of 4 clusters (exact)", 16)


def test_several_variants_are_adjusted_by_holm(database: db.Database, script: Script) -> None:
    asked = [{"q": f"q{n}"} for n in range(8)]
    good = [script(f"good{k}", {f"q{n}": "yes" if n < 7 + k % 2 else "no" for n in range(8)}) for k in range(3)]
    comparisons.run(spec("h", ["echo/a", *good], cases=asked, scorers=["contains: yes"]))
    found = comparisons.summary("h").verdicts
    assert [one.p for one in found] == pytest.approx([2 / 2**7, 2 / 2**8, 2 / 2**7])
    assert [one.p_adjusted for one in found] == pytest.approx([4 / 2**7, 6 / 2**8, 4 / 2**7])


# Votes


def test_a_judge_sees_both_orders_and_a_disagreement_is_a_tie(
    database: db.Database, script: Script, tmp_path: Path
) -> None:
    asked = [{"q": f"q{n}"} for n in range(8)]
    better = script("better", {f"q{n}": "GOOD" for n in range(8)})
    comparisons.run(spec("j", ["echo/a", better], cases=asked))
    fair = tmp_path / "fair.json"
    fair.write_text(json.dumps([
        {"match": "(?s)\\[first \\w+\\]\\s*GOOD", "content": '{"winner": "first", "reason": "it is good"}'},
        {"match": "(?s)\\[second \\w+\\]\\s*GOOD", "content": '{"winner": "second"}'},
    ]))  # fmt: skip
    done = comparisons.judge("j", model=f"scripted/{fair}")
    assert (done.pairs, done.asked, done.unread) == (8, 16, 0)
    found = comparisons.summary("j")
    (one,) = found.verdicts
    assert (one.metric, one.verdict, one.n, one.wins, one.test) == ("judge", "better", 8, 8, "sign test")
    assert (found.ballots[0].bias, found.ballots[0].first) == (0, 0.5)
    votes = list(ComparisonVote.select())
    assert len(votes) == 16 and {vote.voter_kind for vote in votes} == {"llm"}
    assert [vote.swapped_pair_id for vote in votes[:2]] == [None, votes[0].id]
    assert votes[0].reason is None and votes[1].reason == "it is good"
    assert comparisons.judge("j", model=f"scripted/{fair}").asked == 0
    assert ComparisonVote.select().count() == 16

    biased = tmp_path / "biased.json"
    biased.write_text(json.dumps([{"match": "", "content": '{"winner": "first"}'}]))
    comparisons.run(spec("k", ["echo/a", better], cases=asked))
    comparisons.judge("k", model=f"scripted/{biased}")
    found = comparisons.summary("k")
    assert (found.ballots[0].bias, found.ballots[0].first, found.ballots[0].ties) == (1.0, 1.0, 8)
    assert (found.verdicts[0].verdict, found.verdicts[0].ties) == ("no_evidence", 8)


def test_a_judge_that_answers_nonsense_gives_no_votes(database: db.Database) -> None:
    value = spec("n", ["echo/a", "echo/b"], cases=[{"q": "x"}])
    value["variants"][1]["prompt"] = "Please {{ q }}"
    comparisons.run(value)
    done = comparisons.judge("n", model="echo/judge")
    assert (done.pairs, done.unread) == (1, 2) and "no" in done.problems[0]
    assert comparisons.summary("n").ballots == ()


def test_a_rubric_is_asked_once_for_each_answer_and_read_again(database: db.Database, tmp_path: Path) -> None:
    path = tmp_path / "judge.json"
    path.write_text(json.dumps([{"match": "", "content": '{"pass": true, "score": 0.8, "reason": "fine"}'}]))
    value = spec("r", scorers=["llm-rubric: is short"], judge=f"scripted/{path}", cases=[{"q": "x"}, {"q": "y"}])
    report = comparisons.run(value)
    assert report.scored is not None and report.scored.asked == 2  # the answers of both variants are equal
    assert [cell.score for cell in cells("r")] == [0.8] * 4
    calls = batches.status("judge/r").calls
    again = comparisons.score("r")
    assert (again.asked, again.scored, batches.status("judge/r").calls) == (0, 4, calls)


def test_judges_are_asked_within_the_budget_and_again_when_they_failed(database: db.Database, tmp_path: Path) -> None:
    path = tmp_path / "judge.json"
    path.write_text(json.dumps([{"match": "", "error": {"kind": "bad_request", "status": 400}}]))
    value = spec(
        "b", scorers=["llm-rubric: is short"], judge=f"scripted/{path}", cases=[{"q": str(n)} for n in range(4)]
    )
    first = comparisons.run(value, limits={"budget_requests": 10})
    assert first.status == "paused" and first.scored is not None and first.scored.judging is not None
    assert (first.batch.job.calls, first.scored.judging.job.calls) == (8, 2)
    path.write_text(json.dumps([{"match": "", "content": '{"score": 1, "pass": true}'}]))
    second = comparisons.run("b", limits={"budget_requests": 0}, retry=True)
    assert second.status == "done" and [cell.passed for cell in cells("b")] == [True] * 8
    assert batches.status("judge/b").calls == 2 + 4
    spent = comparisons.run({**value, "name": "s"}, limits={"budget_requests": 8})
    assert spent.status == "paused" and spent.scored is not None and spent.scored.judging is not None
    assert (spent.scored.judging.reason, spent.scored.judging.job.calls) == (
        "the budget has nothing left for judges",
        0,
    )


def test_questions_of_an_earlier_rubric_are_withdrawn(database: db.Database, tmp_path: Path) -> None:
    path = tmp_path / "judge.json"
    path.write_text(json.dumps([{"match": "", "content": '{"score": 1, "pass": true}'}]))
    asked = [{"q": f"q{n}"} for n in range(6)]
    value = spec("w", ["echo/a"], cases=asked, judge=f"scripted/{path}", scorers=["llm-rubric: FIRST"])
    comparisons.run(value, limits={"budget_requests": 8, "concurrency": 1})
    assert batches.status("judge/w").counts["todo"] == 4
    report = comparisons.run(value | {"scorers": ["llm-rubric: SECOND"]}, limits={"budget_requests": 14})
    assert (report.status, [cell.passed for cell in cells("w")]) == ("done", [True] * 6)
    assert batches.status("judge/w").calls == 8
    again = comparisons.run(value, limits={"budget_requests": 0})
    assert (again.status, batches.status("judge/w").calls) == ("done", 12)


def test_judges_without_a_verdict_are_asked_again_when_wanted(
    database: db.Database, script: Script, tmp_path: Path
) -> None:
    path = tmp_path / "judge.json"
    path.write_text(json.dumps([{"match": "", "content": "hm"}]))
    model = f"scripted/{path}"
    comparisons.run(spec("a", ["echo/a", script("b", {"x": "other"})], judge=model, scorers=["llm-rubric: good"]))
    comparisons.judge("a", model=model)
    path.write_text(
        json.dumps(
            [
                {"match": "rubric", "content": '{"score": 1, "pass": true}'},
                {"match": "", "content": '{"winner": "tie"}'},
            ]
        )
    )
    assert comparisons.score("a").errors == 2 and comparisons.judge("a", model=model).unread == 2
    assert comparisons.run("a", retry=True).status == "done"
    assert [cell.passed for cell in cells("a")] == [True, True]
    assert comparisons.judge("a", model=model, retry=True).unread == 0
    calls = batches.status("judge/a").calls
    sessions.delete(next(batches.stream_items("judge/a")).session or "")
    assert comparisons.score("a").errors == 1
    assert comparisons.score("a", retry=True).errors == 0
    assert batches.status("judge/a").calls == calls + 1


def test_what_is_gone_is_not_asked_again_with_what_failed(database: db.Database, script: Script) -> None:
    wrong = {"error": {"kind": "bad_request", "status": 400}}
    model = script("m", {"OLD x": wrong, "NEW x": wrong})
    comparisons.run(spec("g", [model], prompt="OLD {{ q }}"))
    comparisons.run(spec("g", [model], prompt="NEW {{ q }}"))
    script("m", {"OLD x": "old", "NEW x": "new"})
    report = comparisons.run("g", retry=True)
    assert (report.batch.job.calls, [cell.content for cell in cells("g")]) == (3, ["new"])


def test_votes_on_answers_that_are_gone_do_not_count(database: db.Database, script: Script) -> None:
    comparisons.run(spec("v", ["echo/a", script("b", {"x": "bad"})]))
    (pair,) = comparisons.to_vote(comparisons.get("v"), "ann")
    comparisons.cast(comparisons.get("v"), pair, "a", "ann")
    sessions.delete(cells("v")[0].session or "")
    assert comparisons.votes(comparisons.get("v")) == []
    comparisons.run("v", retry=True)
    assert comparisons.votes(comparisons.get("v")) == [] and len(comparisons.to_vote(comparisons.get("v"), "ann")) == 1


def test_a_stored_comparison_is_not_changed_in_passing(database: db.Database) -> None:
    comparisons.run(spec("s"))
    with pytest.raises(InvalidInput, match='"s" is stored: repeats, scorers cannot be changed'):
        comparisons.run("s", scorers=["contains: z"], repeats=3)
    assert comparisons.run("s", limits={"concurrency": 2}).status == "done"


def test_a_name_with_a_slash_has_a_judge_of_its_own(database: db.Database, tmp_path: Path) -> None:
    path = tmp_path / "judge.json"
    path.write_text(json.dumps([{"match": "", "content": '{"score": 1}'}]))
    for name in ("x", "x/judge"):
        comparisons.run(spec(name, scorers=["llm-rubric: good"], judge=f"scripted/{path}"))
    assert comparisons.delete("x/judge") == 2 and comparisons.delete("x") == 2 and batches.count() == 0


def test_votes_of_a_judge_stay_where_new_ones_cannot_be_read(
    database: db.Database, script: Script, tmp_path: Path
) -> None:
    comparisons.run(spec("j", ["echo/a", script("b", {"x": "other"})]))
    path = tmp_path / "judge.json"
    path.write_text(json.dumps([{"match": "", "content": '{"winner": "first"}'}]))
    comparisons.judge("j", model=f"scripted/{path}")
    kept = [(vote.winner, vote.first) for vote in comparisons.votes(comparisons.get("j"))]
    path.write_text(json.dumps([{"match": "", "content": "no idea"}]))
    done = comparisons.judge("j", model=f"scripted/{path}", criteria="Shorter is better.")
    assert (done.asked, done.unread) == (2, 2)
    assert (
        [(vote.winner, vote.first) for vote in comparisons.votes(comparisons.get("j"))]
        == kept
        == [("a", "a"), ("b", "b")]
    )


def test_people_vote_blind_in_random_order_undo_and_go_on(database: db.Database, script: Script) -> None:
    asked = [{"q": f"q{n}"} for n in range(9)]
    value = spec("v", ["echo/a", script("b", {f"q{n}": "same" if n else "q0" for n in range(9)})], cases=asked)
    comparisons.run(value)
    group = comparisons.get("v")
    left = comparisons.to_vote(group, "ann", seed=1)
    assert len(left) == 8  # the equal answers of q0 are no pair
    assert {pair.first for pair in left} == {"a", "b"}
    for pair in left[:6]:
        shown = pair.shown().index("same")
        comparisons.cast(group, pair, pair.winner(("first", "second")[shown]), "ann")
    votes = list(ComparisonVote.select())
    assert [vote.winner for vote in votes] == ["b"] * 6
    assert [vote.shown_first for vote in votes] == [pair.first for pair in left[:6]]
    assert comparisons.undo(group, "bob") is None
    assert (comparisons.undo(group, "ann") or {})["winner"] == "b"
    rest = comparisons.to_vote(group, "ann")
    assert len(rest) == 3 and len(comparisons.to_vote(group, "bob")) == 8
    for pair in rest:
        comparisons.cast(group, pair, "tie", "ann")
    found = comparisons.summary("v")
    (one,) = found.verdicts
    assert (one.metric, one.test, one.wins, one.losses, one.ties, one.n) == ("votes", "sign test", 5, 0, 3, 8)
    assert found.ballots[0].connected and found.sides[0].rating is not None
    with pytest.raises(InvalidInput, match="is no winner"):
        comparisons.cast(group, rest[0], "c", "ann")


def test_ratings_are_flagged_where_nobody_lost(database: db.Database, script: Script) -> None:
    comparisons.run(spec("u", ["echo/a", script("b", {"x": "other"})]))
    (pair,) = comparisons.to_vote(comparisons.get("u"), "ann")
    comparisons.cast(comparisons.get("u"), pair, "b", "ann")
    found = comparisons.summary("u")
    assert (found.ballots[0].connected, found.ballots[0].ratings, found.sides[1].rating) == (False, {}, None)


# Linking


def test_sessions_that_exist_are_linked(database: db.Database) -> None:
    def talk(model: str, answer: str, prompt: str = "why?") -> str:
        session = sessions.create("t", model=model)
        sessions.append(session, "user", prompt)
        sessions.append(session, "assistant", answer, model=model)
        return session.uuid

    first, second, third = talk("echo/a", "because"), talk("echo/b", "so"), talk("echo/a", "hm")
    empty = sessions.create("e", model="echo/a")
    done = comparisons.add("old", [first, second, third, empty.uuid])
    assert (done.new, done.known, done.unanswered) == (3, 0, (empty.uuid,))
    assert [(cell.variant, cell.repeat, cell.content) for cell in cells("old")] == [
        ("echo/a", 0, "because"), ("echo/b", 0, "so"), ("echo/a", 1, "hm"),
    ]  # fmt: skip
    assert comparisons.add("old", [first]).known == 1
    comparisons.score("old", new=["contains: be"])
    assert [cell.passed for cell in cells("old")] == [True, False, False]
    assert comparisons.run("old").status == "done"
    sessions.append(first, "user", "really?")
    sessions.append(first, "assistant", "yes", model="echo/a")
    assert cells("old")[0].content == "because"  # what was linked stays
    assert comparisons.add("old", [talk("echo/b", "x")], variant="mine").new == 1
    with pytest.raises(InvalidInput, match="no session"):
        comparisons.add("old", [])
    with pytest.raises(NotFound):
        comparisons.add("old", ["nothing"])


# Gates


def test_gates(database: db.Database, script: Script) -> None:
    asked = [{"q": f"q{n}"} for n in range(10)]
    bad = script("bad", {f"q{n}": "no" for n in range(10)})
    comparisons.run(spec("g", ["echo/echo", bad], cases=asked, scorers=["contains: q"]))
    found = comparisons.summary("g")

    def holds(gate: str) -> bool:
        return gates.check(found, [gate])[0].holds

    asked_of = ("contains<0.5", "contains < 0%", "worse", "worse:contains", "errors", "pass<0.5", "pass<0")
    assert [holds(one) for one in asked_of] == [False, True, False, False, True, False, True]
    same = spec("h", ["echo/echo"], cases=asked, scorers=["contains: q"])
    comparisons.run(same)
    worse = {**same, "name": "i", "variants": [{"name": "echo", "model": bad}]}
    comparisons.run(worse)
    assert gates.check(comparisons.summary("h"), ["worse-than:g"])[0].holds
    (gate,) = gates.check(comparisons.summary("i"), ["worse-than:h"])
    assert not gate.holds and "echo is worse than echo in h" in gate.reasons[0]
    for odd in ("", "better", "contains>1", "worse-than:", "contains<x"):
        with pytest.raises(InvalidInput, match="is no gate"):
            gates.parse(odd)
    with pytest.raises(InvalidInput, match='there is no metric "contain"'):
        gates.check(found, ["contain<1"])
    comparisons.run(spec("none"))
    assert not gates.check(comparisons.summary("none"), ["worse"])[0].holds
    comparisons.run(
        spec("half", ["echo/a", "echo/b", "scripted/none.json"], scorers=["contains: x", "contains-any: x"])
    )
    first, second = gates.check(comparisons.summary("half"), ["worse", "errors"])
    assert [reason.startswith("nothing is known of a difference of ") for reason in first.reasons] == [True]
    assert second.reasons == ("1 of 3 answers failed",)
    gates.check_known(comparisons.get("half"), ["pass<1", "contains<1", "worse:judge", "worse", "errors"])
    with pytest.raises(InvalidInput, match='there is no metric "contain"'):
        gates.check_known(comparisons.get("half"), ["contain<1"])


# Lists, deletion


def test_lists_and_deletion(database: db.Database) -> None:
    for name in ("one", "two", "three"):
        comparisons.run(spec(name))
    page = comparisons.find(limit=2)
    assert [row["name"] for row in page.rows] == ["three", "two"]
    assert [row["name"] for row in comparisons.find(cursor=page.cursor).rows] == ["one"]
    assert comparisons.get("@last").name == "three" and comparisons.count("done") == 3
    with pytest.raises(Conflict, match='asks for the comparison "two"'):
        batches.delete("compare/two")
    kept = Session.select().count()
    assert comparisons.delete("two") == 2
    assert (Session.select().count(), comparisons.count()) == (kept, 2)
    with pytest.raises(NotFound, match="llmsess compare list"):
        comparisons.get("two")
    comparisons.run(spec("two"))


def test_figures_are_counted_with_few_statements(database: db.Database) -> None:
    statements: list[str] = []
    comparisons.run(spec("s", cases=[{"q": str(n)} for n in range(3)], scorers=["contains: 1"]))
    comparisons.run(spec("l", cases=[{"q": str(n)} for n in range(30)], scorers=["contains: 1"]))
    counts = []
    connection = db.database.driver_connection()
    for name in ("s", "l"):
        statements.clear()
        connection.set_trace_callback(statements.append)
        answering.summary(name)
        connection.set_trace_callback(None)
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 12


def test_cells_find_their_items_by_indexes(database: db.Database) -> None:
    plan = database.execute_sql(
        f"EXPLAIN QUERY PLAN {scheduling._OTHERS}", {"keys": "[]", "job": 1, "group": 1}
    ).fetchall()
    assert [row[3].partition("(")[2].count("=?") for row in plan] == [0, 4, 2], plan  # all of both keys, not a scan
    for sql in (viewing._CELLS.format(content="NULL", asked="''", wheres=""),):
        steps = [row[3] for row in database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", (1, 0, 500)).fetchall()]
        assert not [step for step in steps if step.startswith("SCAN") or "B-TREE" in step], steps


def test_a_pair_is_shown_in_its_order() -> None:
    def cell(text: str) -> Any:
        none: list[Any] = [None] * 6
        return viewing.Cell(*(1, text, "k", 0, "answered", None, None, None, text, *none, False, None, None))

    pair = judging.Pair(cases.Case(), cell("A"), cell("B"), "b")
    assert pair.shown() == ("B", "A")
    assert [pair.winner(one) for one in ("first", "second", "tie", "both_bad")] == ["b", "a", "tie", "both_bad"]


def test_cases_may_come_one_after_the_other() -> None:
    def lazily() -> Iterator[Any]:
        yield {"q": "a"}
        yield "b"

    assert [case.variables for case in rows(lazily())] == [{"q": "a"}, {"prompt": "b"}]
