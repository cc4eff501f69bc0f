"""`llmsess compare` as a person meets it: what it prints, its exit status, its files, its page, its votes."""

from __future__ import annotations

import csv
import html
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from llmsess import comparisons
from tests.conftest import Command

SHOWN = ["id", "name", "status", "cells", "errors"]
VERDICT = ["metric", "baseline", "variant", "n", "difference", "low", "high", "p", "p_adjusted", "test", "verdict"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A comparison of twelve cases: one model is right everywhere, the other at two of them."""
    monkeypatch.chdir(tmp_path)
    for name, right in (("good", 12), ("bad", 2)):
        answers = [
            {
                "prompt": f"Capital of land {n}?",
                "content": f"City {n}" if n < right else "no <b>idea</b>",
                "cost_usd": "0.001",
            }
            for n in range(12)
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(answers))
    (tmp_path / "lands.csv").write_text("land,expected\n" + "".join(f"land {n},City {n}\n" for n in range(12)))
    file = tmp_path / "capitals.yaml"
    file.write_text(
        "name: capitals\nbaseline: bad\nvariants:\n  - {name: bad, model: scripted/bad.json}\n"
        "  - {name: good, model: scripted/good.json}\nprompt: Capital of {{ land }}?\ncases: lands.csv\n"
        "scorers:\n  - {type: icontains, value: '{{ expected }}'}\n"
    )
    return file


def test_a_whole_comparison_by_options(run: Command) -> None:
    ran = run("compare", "run", "-m", "echo/a", "-m", "echo/b", "Name a colour.")
    assert ran.status == 0
    assert "2 of 2 answers: 1 case x 2 variants" in ran.out and ran.out.count("Name a colour.") >= 2
    again = run("compare", "run", "-m", "echo/a", "-m", "echo/b", "Name a colour.", "--json")
    assert json.loads(again.out)["cells"] == 2
    assert len(json.loads(run("compare", "list", "--json").out)) == 1
    crossed = run("compare", "run", "-m", "echo/a", "-p", "Two {{ q }}", "One {{ q }}", "--cases", "-", "--name", "x",
                  "--scorer", "contains: {{ q }}", "--json", stdin='{"q": "1"}\n{"q": "2"}\n')  # fmt: skip
    assert [side["name"] for side in json.loads(crossed.out)["variants"]] == ["echo/a, prompt 1", "echo/a, prompt 2"]
    assert json.loads(crossed.out)["cells"] == 4


def test_a_definition_is_run_and_shown(run: Command, spec: Path) -> None:
    ran = run("compare", "run", str(spec))
    assert ran.status == 0, ran.err
    assert "icontains: good is better than bad by 83.3 points (95% " in ran.out
    assert "24 items to scripted/bad.json, scripted/good.json" in ran.err
    shown = json.loads(run("compare", "show", "capitals", "--json").out)
    assert list(shown)[:5] == SHOWN and (shown["status"], shown["cells"], shown["errors"]) == ("done", 24, 0)
    (verdict,) = shown["verdicts"]
    assert list(verdict)[:11] == VERDICT
    assert (verdict["verdict"], verdict["n"], verdict["test"]) == ("better", 12, "McNemar exact")
    assert shown["variants"][0]["cost_usd"] == {
        "n": 12,
        "unknown": 0,
        "median": "0.001",
        "p95": "0.001",
        "total": "0.012",
    }
    assert run("compare", "show", "--format", "csv").out.startswith("metric,baseline,variant,n,difference")
    case = run("compare", "show", "capitals", "--case", "3")
    assert "good [icontains 1]\nCity 2" in case.out and 'bad: icontains: "City 2" is not in it' in case.out
    failing = json.loads(run("compare", "show", "capitals", "--failing", "--json").out)
    assert len(failing) == 10 and {row["variant"] for row in failing} == {"bad"}
    cases = json.loads(run("compare", "show", "capitals", "--cases", "--json").out)
    assert [(row["bad"], row["good"]) for row in cases[1:3]] == [("pass", "pass"), ("FAIL", "pass")]
    assert run("compare", "show", "capitals", "--case", "99").status == 3
    assert run("list", "--type", "comparison", "--json", "--all").out.count('"id"') == 24
    assert run("compare", "show", "@last").status == 0
    assert run("compare", "show", "nothing").status == 3


def test_a_dry_run_plans_and_leaves_nothing(run: Command, spec: Path) -> None:
    ran = run("compare", "run", str(spec), "--dry-run")
    assert ran.status == 0 and "24 items" in ran.err
    assert run("compare", "list", "--json").out.strip() == "[]" == run("batch", "list", "--json").out.strip()


def test_gates_decide_the_exit_status(run: Command, spec: Path) -> None:
    assert run("compare", "run", str(spec), "--fail-if", "worse").status == 0
    below = run("compare", "run", str(spec), "--fail-if", "icontains<0.9")
    assert (below.status, "icontains of bad is 0.1667, not 0.9 or more" in below.err) == (6, True)
    assert run("compare", "show", "capitals", "--fail-if", "icontains<10%", "--fail-if", "errors").status == 0
    turned = run("compare", "run", str(spec), "--name", "turned", "--baseline", "good", "--fail-if", "worse:icontains")
    assert (turned.status, "bad is worse than good" in turned.err) == (6, True)
    assert run("compare", "run", str(spec), "--fail-if", "nonsense").status == 2
    assert (
        json.loads(run("compare", "show", "turned", "--fail-if", "worse", "--json").err.splitlines()[-1])["kind"]
        == "some_failed"
    )


def test_scores_again_and_lists_scorers(run: Command, spec: Path) -> None:
    run("compare", "run", str(spec))
    ran = run("compare", "score", "capitals", "--scorer", "equals: {{ expected }}", "--scorer", "python: os:getcwd")
    assert ran.status == 0 and "24 were not run" in ran.err
    assert (
        "python: No evidence of a difference: good vs bad (n=0: no case has a score of both; 12 left out: 12 not run)"
        in ran.out
    )
    names = [row["scorer"] for row in json.loads(run("compare", "score", "--scorers", "--json").out)]
    assert {"equals", "is-json", "rouge-n", "llm-rubric", "python"} <= set(names)
    assert run("compare", "score", "capitals", "--scorer", "contians: x").status == 2


def test_answers_that_fail_say_so_and_can_be_asked_again(run: Command, spec: Path, tmp_path: Path) -> None:
    kept = (tmp_path / "bad.json").read_text()
    (tmp_path / "bad.json").write_text(json.dumps(json.loads(kept)[:11]))
    ran = run("compare", "run", str(spec))
    assert (ran.status, "1 of 24 answers failed" in ran.err) == (6, True)
    (tmp_path / "bad.json").write_text(kept)
    assert run("compare", "run", "capitals").status == 6
    assert "1 item to scripted/bad.json" in run("compare", "run", "capitals", "--retry-errors", "--dry-run").err
    assert run("compare", "run", "capitals", "--repeats", "3").status == 2
    assert run("compare", "run", "capitals", "--retry-errors").status == 0


def test_what_stops_a_run_is_its_exit_status(run: Command) -> None:
    missing = run("compare", "run", "-m", "openai/gpt-5", "hi")
    assert (missing.status, "OPENAI_API_KEY" in missing.err) == (4, True)
    for args, status in (
        ((), 2), (("hi",), 3), (("nothing.yaml",), 2), (("-m", "nobody/x", "hi"), 2), (("hi", "--cases", "x.csv"), 2),
        (("-m", "echo/a", "hi", "--tag", "x"), 2), (("-m", "echo/a", "hi", "--budget-usd", "1"), 2),
    ):  # fmt: skip
        ran = run("compare", "run", *args)
        assert ran.status == status and "Traceback" not in ran.err and ran.err.count("\n") <= 3, (args, ran)


def test_a_budget_pauses_and_the_same_command_goes_on(run: Command, spec: Path) -> None:
    ran = run("compare", "run", str(spec), "--budget-requests", "10")
    assert (ran.status, "paused" in ran.err) == (6, True)
    shown = json.loads(run("compare", "show", "capitals", "--json").out)
    assert (shown["status"], shown["answered"], shown["verdicts"][0]["n"]) == ("paused", 10, 5)
    assert run("compare", "run", "capitals", "--budget-requests", "0").status == 0


# Files


def test_every_format_has_every_answer(run: Command, spec: Path, tmp_path: Path) -> None:
    run("compare", "run", str(spec))
    whole = json.loads(run("compare", "export", "capitals").out)
    assert list(whole)[:5] == SHOWN and len(whole["results"]) == 24
    lines = run("compare", "export", "capitals", "--format", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == whole["results"]
    rows = list(csv.DictReader(io.StringIO(run("compare", "export", "capitals", "--format", "csv").out)))
    assert len(rows) == 24 and rows[0]["icontains"] == "1.0" and rows[0]["land"] == "land 0"
    text = run("compare", "export", "capitals", "--format", "markdown").out
    assert "**icontains**: good is better than bad" in text and text.count(r"no \<b\>idea\</b\>") == 10
    suites = ElementTree.fromstring(run("compare", "export", "capitals", "--format", "junit").out)
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in suites] == [
        ("bad", "12", "10"),
        ("good", "12", "0"),
    ]
    file = tmp_path / "c.html"
    assert run("compare", "export", "capitals", "-o", str(file)).status == 0
    assert file.read_text().startswith("<!DOCTYPE html>")
    refused = run("compare", "export", "capitals", "-o", str(file))
    assert refused.status == 2 and run("compare", "export", "capitals", "-o", str(file), "--yes").status == 0
    assert run("compare", "export", "nothing").status == 3


HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">=1+1 | `x`"


def test_nothing_that_is_said_becomes_code(run: Command, tmp_path: Path) -> None:
    value = {
        "name": HOSTILE[:150], "variants": [{"name": f"{HOSTILE[:60]}{n}", "model": f"echo/{n}"} for n in "ab"],
        "prompt": "{{ q }}", "cases": [{"q": f"={HOSTILE}"}, {"q": "\x1b]0;owned\x07\u202e\x00"}], "scorers": ["equals: =x"],
    }  # fmt: skip
    (tmp_path / "h.json").write_text(json.dumps(value))
    ran = run("compare", "run", str(tmp_path / "h.json"))
    assert ran.status == 0 and "\x1b" not in ran.out + ran.err and "\x00" not in ran.out
    page = run("compare", "export", "@last", "--format", "html").out
    assert page.count("<script") == 2 and 'onerror="' not in page.split("<title>")[1].split("</title>")[0]
    assert "</script><script>document" not in page
    rows = list(csv.reader(io.StringIO(run("compare", "export", "@last", "--format", "csv").out)))
    assert all(not cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    ElementTree.fromstring(run("compare", "export", "@last", "--format", "junit").out)
    if CHROMIUM:
        (tmp_path / "page.html").write_text(page)
        assert "<title>owned" not in rendered(tmp_path / "page.html")


def rendered(file: Path) -> str:
    """Return the page as a real browser has it after its script has run."""
    command = [
        CHROMIUM or "",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=2000",
        f"--user-data-dir={file.parent / 'profile'}",
        "--dump-dom",
        f"file://{file}",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_page_works_in_a_browser(run: Command, spec: Path, tmp_path: Path) -> None:
    run("compare", "run", str(spec))
    run("compare", "export", "capitals", "-o", str(tmp_path / "c.html"))
    page = html.unescape(rendered(tmp_path / "c.html"))
    assert "good is better than bad by 83.3 points" in page
    assert page.count('class="answer"') == 24 and "12 of 12 cases" in page
    assert "<del>no <b>idea</b></del>" not in page and "12. land 11" in page
    assert page.count("<figure>") == 2 and "<svg" in page


# Votes


def test_votes_at_a_terminal(run: Command, spec: Path, terminal: Callable[..., Any]) -> None:
    run("compare", "run", str(spec))
    screen = terminal("compare", "vote", "capitals", "--voter", "ann", "--seed", "1")
    shown = screen.shows("10 pairs to judge", "1 of 10", "Capital of land")
    assert "good" not in shown and "bad" not in shown.replace("b both bad", "")
    screen.type("x")
    screen.shows("u undo")
    screen.type("1")
    screen.shows("2 of 10")
    screen.type("u")
    screen.shows("1 of 10")
    screen.type("t", "s")
    screen.shows("3 of 10")
    screen.type("u")
    screen.shows("2 of 10")
    screen.type("s", "q")
    screen.shows("1 vote kept, 9 pairs left")
    assert screen.ended() == 0
    screen = terminal("compare", "vote", "capitals", "--voter", "ann")
    screen.shows("9 pairs to judge")
    screen.type(*"222222222")
    screen.shows("10 votes:", "neither 1")
    assert screen.ended() == 0
    found = json.loads(run("compare", "show", "capitals", "--json").out)
    assert found["votes"][0]["votes"] == 10 and found["votes"][0]["voters"] == ["ann"]
    assert [one["metric"] for one in found["verdicts"]] == ["icontains", "votes"]


def test_votes_from_a_pipe(run: Command, spec: Path) -> None:
    run("compare", "run", str(spec))
    ran = run("compare", "vote", "capitals", "--voter", "bob", stdin="1\n2\nt\nb\nu\n")
    assert (ran.status, "3 votes kept, 7 pairs left" in ran.err) == (0, True)
    assert "good" not in ran.out
    assert "Every pair" not in ran.err
    done = run("compare", "vote", "capitals", "--voter", "bob", stdin="ttttttt")
    assert "10 votes: " in done.out and "neither" in done.out
    assert "Every pair is judged." in run("compare", "vote", "capitals", "--voter", "bob").err


def test_judging_by_a_model_is_told(run: Command, spec: Path, tmp_path: Path) -> None:
    run("compare", "run", str(spec))
    (tmp_path / "judge.json").write_text(json.dumps([{"match": "", "content": '{"winner": "first"}'}]))
    ran = run("compare", "judge", "capitals", "-m", "scripted/judge.json")
    assert ran.status == 0, ran.err
    assert "10 pairs, 20 questions put now." in ran.err
    assert "Judgements of scripted/judge.json: 10 pairs, 10 ties; position bias 100%" in ran.out
    nonsense = run("compare", "judge", "capitals", "-m", "echo/x")
    assert (nonsense.status, "20 answers of the judge were no verdict" in nonsense.err) == (6, True)


def test_sessions_are_linked(run: Command) -> None:
    for model in ("echo/a", "echo/b"):
        assert run("chat", "hello there", "-m", model).status == 0
    ran = run("compare", "add", "talks", "--type", "single")
    assert (ran.status, "2 sessions linked" in ran.err) == (0, True)
    assert "0 sessions linked, 2 known" in run("compare", "add", "talks", "--type", "single").err
    shown = json.loads(run("compare", "score", "talks", "--scorer", "contains: hello", "--json").out)
    assert [side["metrics"][0]["mean"] for side in shown["variants"]] == [1.0, 1.0]
    assert run("compare", "add", "talks").status == 2
    assert run("compare", "run", "talks").status == 0


def test_lists_and_deletion(run: Command, spec: Path) -> None:
    run("compare", "run", str(spec))
    assert run("compare", "list").out.split("\t")[:4] == ["capitals", "done", "2", "12"]
    assert run("compare", "delete", "capitals").status == 2
    assert "Would: " in run("compare", "delete", "capitals", "--dry-run").err
    assert "their sessions stay" in run("compare", "delete", "capitals", "--yes").err
    assert run("compare", "list", "--json").out.strip() == "[]"
    assert run("batch", "list", "--json").out.strip() == "[]"
    assert len(json.loads(run("list", "--all", "--json").out)) == 24
    assert comparisons.FORMATS == ("json", "jsonl", "csv", "markdown", "junit", "html")
