"""promptfoo's configurations and test CSVs, of every shape that its reference has, run unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmsess import catalog, comparisons, db
from llmsess.comparisons import prompting, specs
from llmsess.comparisons.promptfoo_variants import model_of
from llmsess.comparisons.specs import Spec
from llmsess.errors import InvalidInput
from tests.server import ChatServer


def read(folder: Path, text: str, **files: str) -> Spec:
    """Write a configuration with the files that it names, and read it."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "promptfooconfig.yaml").write_text(text)
    return specs.read(folder / "promptfooconfig.yaml")


def prompts(spec: Spec) -> list[Any]:
    return [variant.prompt for variant in spec.variants]


def test_a_whole_configuration_is_read(tmp_path: Path) -> None:
    read_ = read(
        tmp_path,
        """
# yaml-language-server: $schema=https://promptfoo.dev/config-schema.json
description: Translations
tags: {env: test}
prompts:
  - 'Translate "{{text}}" to {{lang}}'
  - file://two.txt
  - file://chat.json
  - {id: named, label: Named, raw: 'In {{lang}}: {{text}}'}
providers:
  - openai:gpt-5
  - id: anthropic:messages:claude-x
    label: Claude
    config: {temperature: 0, max_tokens: 100, apiKey: sk-secret-value, apiBaseUrl: 'http://x'}
    prompts: [Named]
  - openai:chat:gpt-5-mini:
      config: {temperature: 1}
defaultTest:
  vars: {tone: kind}
  assert:
    - {type: latency, threshold: 5000}
  options: {provider: openai:gpt-judge}
  threshold: 0.5
tests:
  - description: Greeting
    vars: {text: Yes, lang: [fr, de]}
    assert:
      - {type: contains, value: Bonjour, weight: 2, metric: acc}
      - type: assert-set
        threshold: 0.5
        assert: [{type: is-json}, {type: javascript, value: 'output.length'}]
      - $ref: '#/assertionTemplates/polite'
    metadata: {cat: greet}
    threshold: 0.7
  - vars: {text: file://long.txt, lang: it}
    options: {prefix: 'Please: ', suffix: ' Thanks.'}
assertionTemplates:
  polite: {type: llm-rubric, value: is polite}
derivedMetrics: [{name: rate, value: 'acc / __count'}]
evaluateOptions: {maxConcurrency: 3, repeat: 2, cache: true}
outputPath: out.html
""",
        two_dot_txt="One {{text}}\n---\nTwo {{text}}\n",
        chat_dot_json='[{"role": "system", "content": "You are {{tone}}"}, {"role": "user", "content": {{ text | dump }}}]',
        long_dot_txt="a long text\n",
    )
    assert (read_.name, read_.repeats, read_.judge, dict(read_.limits)) == (
        "Translations",
        2,
        "openai/gpt-judge",
        {"concurrency": 3},
    )
    assert [(variant.name.split(" · ")[0], variant.model) for variant in read_.variants] == [
        *[("openai:gpt-5", "openai/gpt-5")] * 5, ("Claude", "anthropic/claude-x"),
        *[("openai:chat:gpt-5-mini", "openai/gpt-5-mini")] * 5,
    ]  # fmt: skip
    assert len({variant.name for variant in read_.variants}) == 11
    claude = read_.variants[5]
    assert (claude.prompt, dict(claude.parameters)) == ("In {{lang}}: {{text}}", {"temperature": 0, "max_tokens": 100})
    chat = read_.variants[3].prompt
    assert isinstance(chat, list) and chat[1] == {"role": "user", "content": "{{ text }}"}
    assert prompts(read_)[1:3] == ["One {{text}}", "Two {{text}}"]
    first, second, third = read_.cases
    assert first.variables == {"tone": "kind", "text": "Yes", "lang": "fr"} and second.variables["lang"] == "de"
    assert (first.description, first.threshold, first.metadata) == ("Greeting", 0.7, {"cat": "greet"})
    assert [(one.full_type, one.name, one.weight) for one in first.assertions] == [
        ("latency", "latency", 1), ("contains", "acc", 2), ("assert-set", "assert-set", 1), ("llm-rubric", "llm-rubric", 1),
    ]  # fmt: skip
    assert first.assertions[2].parts[1].unusable == "llmsess does not run javascript"
    assert (third.variables["text"], third.variables["_prefix"], third.threshold) == ("a long text", "Please: ", 0.5)
    assert "sk-secret-value" not in read_.text and "(left out)" in read_.text


def test_it_runs_and_what_cannot_be_run_never_passes(
    database: db.Database, server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    catalog.add_model("openai/echo", base_url=server.url)
    spec = read(
        tmp_path,
        """
prompts: ['Say {{word}}{% if more %} {{more}}{% endif %}', file://p/*.txt]
providers: [echo, {id: 'openai:echo', label: server}]
tests:
  - vars: {word: hi}
    assert: [{type: icontains, value: '{{word}}'}, {type: javascript, value: 'true'}]
  - vars: {word: bye, more: now}
    assert: [{type: equals, value: Say bye now}, {type: not-contains, value: hi}]
    options: {prefix: '> '}
""",
        p__a_dot_txt="A: {{ word }}",
        p__b_dot_txt="B: {{ word }}",
    )
    assert spec.name == tmp_path.name
    report = comparisons.run(tmp_path / "promptfooconfig.yaml")
    assert report.status == "done"
    found = comparisons.summary(report.group)
    assert (found.cells, found.failed) == (12, 0)
    rows = {
        (cell.variant, comparisons.case_of(report.group, cell.case).line): cell
        for cell in comparisons.stream_cells(report.group)
    }
    names = [side.variant.name for side in found.sides]
    assert names[0].startswith("echo · Say {{word}}{% if more %}") and names[3].startswith("server · Say")
    assert rows[names[0], 1].content == "Say hi" and rows[names[3], 2].content == "> Say bye now"
    assert [cell.passed for (_, case), cell in sorted(rows.items()) if case == 1] == [None] * 6
    assert rows["echo · A: {{ word }}", 1].content == "A: hi"
    assert found.sides[0].metrics[0].not_run == 1
    assert all(metric.mean is None for side in found.sides for metric in side.metrics if metric.metric == "javascript")


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ("echo", "echo/echo"),
        ("openai:gpt-5", "openai/gpt-5"),
        ("openai:chat:ft:gpt-5:org", "openai/ft:gpt-5:org"),
        ("anthropic:messages:claude-x", "anthropic/claude-x"),
        ("anthropic:claude-x", "anthropic/claude-x"),
        ("ollama:chat:llama3.2", "ollama/llama3.2"),
        ("ollama:llama3.2:1b", "ollama/llama3.2:1b"),
        ("openrouter:meta/llama", "openrouter/meta/llama"),
        ("google:gemini-pro", "gemini/gemini-pro"),
        ("openai/gpt-5", "openai/gpt-5"),
    ],
)
def test_providers_are_models(given: str, model: str) -> None:
    assert model_of(given) == model


@pytest.mark.parametrize(
    "given", ["exec:./x.sh", "python:p.py", "file://p.js", "https://x.test/api", "webhook:x", "whatever"]
)
def test_a_provider_that_is_no_model_is_refused_or_replaced(tmp_path: Path, given: str) -> None:
    text = f"prompts: [hi]\nproviders: ['{given}']\n"
    with pytest.raises(InvalidInput, match="is no model that llmsess can call"):
        read(tmp_path, text)
    assert [
        one.model for one in specs.read(tmp_path / "promptfooconfig.yaml", models=["echo/a", "echo/b"]).variants
    ] == ["echo/a", "echo/b"]


# Tests in files


def test_a_csv_with_every_special_column(tmp_path: Path) -> None:
    rows = (
        "q,style,__expected,__expected2,__description,__prefix,__suffix,__metric,__threshold,__metadata:cat,"
        "__metadata:tags[],__config:__expected:threshold,__config:__expected2:threshold\n"
        'one,"{""tone"": ""dry""}",contains: x,similar(0.8): y,First,"Pre ", post,m,0.6,math,"a,b\\,c",,0.9\n'
        'two,plain,"contains-any: a, b",rouge-n(0.5): text,,,,,,,,0.7,\n'
        "three,,just this,,,,,,,,,,\n"
        "four,,,,,,,,,,,,\n"
        "five,,is-json,not-icontains: z,,,,,,,,,\n"
    )
    spec = read(tmp_path, "prompts: ['{{q}}']\nproviders: [echo]\ntests: file://t.csv\n", t_dot_csv=rows)
    one, two, three, four, five = spec.cases
    assert one.variables == {"q": "one", "style": {"tone": "dry"}, "_prefix": "Pre ", "_suffix": " post"}
    assert (one.description, one.threshold, one.metadata) == ("First", 0.6, {"cat": "math", "tags": ["a", "b,c"]})
    assert [(each.type, each.value, each.threshold, each.metric) for each in one.assertions] == [
        ("contains", "x", None, "m"), ("similar", "y", 0.9, "m"),
    ]  # fmt: skip
    assert [(each.type, each.value, each.threshold) for each in two.assertions] == [
        ("contains-any", "a, b", 0.7),
        ("rouge-n", "text", 0.5),
    ]
    assert [(each.type, each.value) for each in three.assertions] == [("equals", "just this")]
    assert four.assertions == () and [each.full_type for each in five.assertions] == ["is-json", "not-icontains"]


def test_a_csv_is_read_without_a_configuration_too(database: db.Database, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("q,__expected\na,equals: a\nb,contains: z\n")
    comparisons.run({"name": "x", "models": ["echo/a"], "prompt": "{{ q }}", "cases": str(tmp_path / "t.csv")})
    assert [cell.passed for cell in comparisons.stream_cells(comparisons.get("x"))] == [True, False]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.yaml", "- vars: {q: a}\n  assert: [{type: equals, value: a}]\n- vars: {q: [b, c]}\n"),
        ("t.json", '[{"vars": {"q": "a"}, "assert": [{"type": "equals", "value": "a"}]}, {"vars": {"q": ["b", "c"]}}]'),
        (
            "t.jsonl",
            '{"vars": {"q": "a"}, "assert": [{"type": "equals", "value": "a"}]}\n{"vars": {"q": ["b", "c"]}}\n',
        ),
    ],
)
@pytest.mark.parametrize(
    "way",
    ["tests: file://{0}", "tests: [file://{0}]", "tests: {0}", "tests: [{{path: file://{0}}}]", "tests: file://t.*"],
)
def test_tests_in_files(tmp_path: Path, name: str, content: str, way: str) -> None:
    (tmp_path / name).write_text(content)
    spec = read(tmp_path, f"prompts: ['{{{{q}}}}']\nproviders: [echo]\n{way.format(name)}\n")
    assert [case.variables["q"] for case in spec.cases] == ["a", "b", "c"]
    assert [one.type for one in spec.cases[0].assertions] == ["equals"]


def test_scenarios_cross_their_configurations_with_their_tests(tmp_path: Path) -> None:
    spec = read(
        tmp_path,
        """
prompts: ['{{a}} {{b}} {{c}}']
providers: [echo]
defaultTest: {vars: {c: 3}, assert: [{type: contains, value: '3'}]}
scenarios:
  - config: [{vars: {a: 1}, assert: [{type: contains, value: '1'}]}, {vars: {a: 2}}]
    tests: [{vars: {b: x}, assert: [{type: contains, value: x}]}, {vars: {b: y}}]
tests: [{vars: {a: 9, b: 9}}]
""",
    )
    assert [(case.variables["a"], case.variables["b"], len(case.assertions)) for case in spec.cases] == [
        (9, 9, 1), (1, "x", 3), (1, "y", 2), (2, "x", 2), (2, "y", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("prompts: just one {{q}}", ["just one {{q}}"]),
        ("prompts: {p.txt: My label}", ["from a file {{q}}"]),
        ("prompts: [p.txt]", ["from a file {{q}}"]),
        ("prompts: [file://p.txt]", ["from a file {{q}}"]),
        ("prompts: [file://p.csv]", ["first {{q}}", "second, {{q}}"]),
        ("prompts: [file://c.yaml]", [[{"role": "user", "content": "{{q}}"}]]),
        ("prompts: [{label: L, raw: 'raw {{q}}'}]", ["raw {{q}}"]),
        ("prompts: [{id: file://p.txt, label: L}]", ["from a file {{q}}"]),
        ("prompts: ['What is file.txt?']", ["What is file.txt?"]),
        ('prompts: [\'[{"role": "user", "content": "{{q}}"}]\']', [[{"role": "user", "content": "{{q}}"}]]),
        ("prompts: ['[1, 2] is a list, {{q}}']", ["[1, 2] is a list, {{q}}"]),
    ],
    ids=range(11),
)
def test_prompts_of_every_shape(tmp_path: Path, given: str, expected: list[Any]) -> None:
    spec = read(
        tmp_path, f"{given}\nproviders: [echo]\ntests: [{{vars: {{q: x}}}}]\n", p_dot_txt="from a file {{q}}",
        p_dot_csv='prompt\nfirst {{q}}\n"second, {{q}}"\n', c_dot_yaml="- role: user\n  content: '{{q}}'\n",
    )  # fmt: skip
    assert prompts(spec) == expected


def test_code_of_other_languages_is_told_and_not_run(tmp_path: Path) -> None:
    spec = read(
        tmp_path,
        """
prompts: ['{{q}}', file://p.js, exec:./make.sh, file://p.py:fn]
providers: [echo]
extensions: [file://hook.py:hook]
tests:
  - vars: {q: a}
    assert:
      - {type: contains, value: a, transform: output.trim()}
      - {type: python, value: file://check.py:good}
      - {type: python, value: len(output) > 1}
      - {type: equals, value: file://make.js}
  - vars: {q: b}
    options: {transform: JSON.parse(output)}
    assert: [{type: equals, value: b}]
  - file://generate.py:tests
""",
        check_dot_py="def good(output, context):\n    return True\n",
    )
    assert len(spec.variants) == 1
    assert len([note for note in spec.notes if "is a program" in note or "hooks" in note or "not read" in note]) == 5
    first, second = spec.cases
    assert [one.unusable is None for one in first.assertions] == [False, True, True, False]
    assert second.assertions[0].unusable is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompts: [hi]\nproviders: []\n", "names no providers"),
        ("prompts: [file://nothing.txt]\nproviders: [echo]\n", "there is no prompt nothing.txt"),
        ("prompts: [hi]\nproviders: [echo]\ntests: file://nothing.csv\n", "there are no tests nothing.csv"),
        ("prompts: [hi]\nproviders: [echo]\ntests: https://docs.google.com/x\n", "tests are not fetched"),
        ("prompts: [hi]\nproviders: [echo]\ntests: [{vars: {a: file://x.txt}}]\n", "cannot be read"),
        ("prompts: [hi]\nproviders: [echo]\ntests: [{assert: [{$ref: '#/nothing/x'}]}]\n", "refers to nothing"),
        ("prompts: [hi]\nproviders: [echo]\na: {$ref: '#/a'}\n", "refers to itself"),
        ("prompts: [file://p.js]\nproviders: [echo]\n", "none of its prompts can be read"),
        ("prompts: [7]\nproviders: [echo]\n", "a prompt is a text"),
        ("prompts: [hi]\nproviders: [7]\n", "a provider is a text"),
        ("prompts: [hi]\nproviders: [echo]\ntests: [7]\n", "a test is a mapping"),
        ("prompts: ['{{ q ']\nproviders: [echo]\n", "the template is wrong"),
    ],
    ids=range(12),
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_configuration_in_json(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(
        json.dumps({"prompts": ["{{q}}"], "providers": ["echo"], "tests": [{"vars": {"q": "a"}}]})
    )
    assert len(specs.read(tmp_path / "c.json").cases) == 1


# As Nunjucks fills it


@pytest.mark.parametrize(
    ("prompt", "variables", "expected"),
    [
        ("{{ a | dump }}", {"a": {"k": "v"}}, '{"k":"v"}'),
        ("{{ a }} {{ b }} {{ c }}.", {"a": True, "b": None, "c": 2.0}, "true  2."),
        ("{{ a }}", {"a": {"k": ["v"]}}, '{"k":["v"]}'),
        ("{% if zz.y.x %}no{% endif %}{{ zz }}-{{ zz.y }}", {"a": 1}, "-"),
        ("{{ zz | default('D') }}", {"a": 1}, "D"),
        ("{{ order.items }} {{ order.values.x }}", {"order": {"items": "two", "values": {"x": 1}}}, "two 1"),
        ("{{ a.length }}{% if a === 'x' %}!{% endif %}", {"a": "x"}, "1!"),
        ("{{ (a | load).k }} {{ a | safe }}", {"a": '{"k": 1}'}, '1 {"k": 1}'),
        ("What is {{ q }}", {"q": "a {{ b }}", "b": "c"}, "What is a c"),
        ("env {{ env.HOME }}.", {"a": 1}, "env ."),
        ('{"q": "{{ q }}"}', {"q": 'say "x"'}, '{"q":"say \\"x\\""}'),
        ("{{ q | upper }}{% for w in q.split(' ') %}[{{ w }}]{% endfor %}", {"q": "a b"}, "A B[a][b]"),
    ],
    ids=range(12),
)
def test_prompts_are_filled_as_nunjucks_fills_them(
    tmp_path: Path, prompt: str, variables: dict[str, Any], expected: str
) -> None:
    (tmp_path / "c.json").write_text(
        json.dumps({"prompts": [prompt], "providers": ["echo"], "tests": [{"vars": variables}]})
    )
    spec = specs.read(tmp_path / "c.json")
    assert prompting.row_of(spec.variants[0], spec.cases[0], 0, lenient=True)["prompt"] == expected


def test_an_address_is_no_prompt(tmp_path: Path) -> None:
    spec = read(
        tmp_path, "prompts: ['{{ q | select }}', '{{ q.upper }}']\nproviders: [echo]\ntests: [{vars: {q: x}}]\n"
    )
    for variant in spec.variants:
        with pytest.raises(InvalidInput, match="makes no text"):
            prompting.row_of(variant, spec.cases[0], 0, lenient=True)


def test_options_and_keys_of_tests_are_honoured_or_noted(tmp_path: Path) -> None:
    spec = read(
        tmp_path,
        """
prompts: ['{{q}}']
providers: [{id: echo, delay: 3, config: {apiBaseUrl: 'http://x', temperature: 0}}]
defaultTest: {vars: {d: file://d.txt}, assert: [{type: contains, value: z}]}
tests:
  - {vars: {q: a}, options: {disableDefaultAsserts: true}}
  - {vars: {q: [b, c]}, options: {disableVarExpansion: true}}
  - {vars: {q: d}, providerOutput: fixed, assert: [{type: equals, value: d}]}
  - {vars: {q: e, expected: [1, 2]}, assert: [{type: equals, value: e, metric: 'm-{{expected}}'}]}
  - {vars: {q: f}, threshold: 0.5, assert: [{type: contains, value: f}]}
  - {vars: {q: f}, assert: [{type: contains, value: g}]}
  - {vars: {q: g}, provider: openai:x, assert: [{type: regex, value: '[^]'}, {type: regex, value: '(?<n>g)'}]}
  - file://more.jsonl
  - file://odd.csv
""",
        d_dot_txt="from a file\n",
        more_dot_jsonl='{"vars": {"q": "h"}, "options": {"prefix": "P ", "transform": "x"}, "assert": [{"type": "contains", "value": "h"}]}\n',
        odd_dot_csv="q,ideal,input,__expected,__expected_x,__expected3\ni,a,b,file://check.js,contains: i,file://check.py:fn\n",
    )
    found = [
        (case.variables["q"], [(one.type, one.name, one.unusable is None) for one in case.assertions])
        for case in spec.cases
    ]
    default = ("contains", "contains", True)
    assert found == [
        ("a", []), (["b", "c"], [default]), ("d", [("contains", "contains", False), ("equals", "equals", False)]),
        ("e", [default, ("equals", "m-1", True)]), ("e", [default, ("equals", "m-2", True)]), ("f", [default, default]),
        ("f", [default, default]), ("g", [default, ("regex", "regex", False), ("regex", "regex", True)]),
        ("h", [("contains", "contains", False)] * 2),
        ("i", [default, ("javascript", "javascript", False), default, ("python", "python", True)]),
    ]  # fmt: skip
    assert (
        all(case.variables["d"] == "from a file" for case in spec.cases) and spec.cases[8].variables["_prefix"] == "P "
    )
    assert [case.threshold for case in spec.cases[5:7]] == [0.5, None]
    assert {"ideal", "input"} <= spec.cases[9].variables.keys()
    for words in ('"delay" of echo', '"apiBaseUrl" of echo is not sent', '"provider" of a test'):
        assert any(words in note for note in spec.notes), (words, spec.notes)


@pytest.mark.parametrize(
    "given",
    ["openai:embedding:x", "openai:image:dall-e-3", "openai:realtime:x", "openai:moderation", "openai:codex-sdk", "openai:chat:",
     "anthropic:claude-agent-sdk", "ollama:embeddings:x", "google:live:x", "vertex:claude-3", "localai:chat:x", "huggingface:text-generation:g/x"],
)  # fmt: skip
def test_what_holds_no_conversation_is_no_model(given: str) -> None:
    with pytest.raises(InvalidInput, match="is no model that llmsess can call"):
        model_of(given)


def test_a_variable_may_be_several_files_and_no_picture(tmp_path: Path) -> None:
    files = {"docs__a_dot_txt": "A\n", "docs__b_dot_txt": "B\n", "x_dot_pdf": "%PDF"}
    spec = read(tmp_path, "prompts: ['{{q}}']\nproviders: [echo]\ntests: [{vars: {q: file://docs/*.txt}}]\n", **files)
    assert [case.variables["q"] for case in spec.cases] == ["A", "B"]
    with pytest.raises(InvalidInput, match="is no text"):
        read(tmp_path, "prompts: ['{{q}}']\nproviders: [echo]\ntests: [{vars: {q: file://x.pdf}}]\n")
