"""Saved prompts: their forms, their variables, the sandbox, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmsess import db, errors, templates
from tests.conftest import Command


def filled(definition: str, given: str = "", **variables: object) -> str:
    return templates.fill(templates.parse(definition), given, variables).prompt


def test_a_text_alone_is_the_prompt_and_what_is_typed_follows_it() -> None:
    assert filled("Summarise this.", "the text") == "Summarise this.\n\nthe text"
    assert filled("prompt: 'Say {{ input }} twice: {{ input }}'", "no") == "Say no twice: no"
    assert filled("prompt: '{% for i in range(3) %}{{ i }}{% endfor %}'") == "012"
    assert filled("prompt: |\n  Two\n  lines\n") == "Two\nlines\n"


def test_a_template_of_llm_is_read_unchanged() -> None:
    definition = """
name: recipe
model: gpt-4o-mini
system: You speak as ${voice}
prompt: |
  Suggest $count dishes of $input for $$5
defaults:
  voice: a pirate
options:
  temperature: 0.5
  max_tokens: 300
schema_object: {type: object, properties: {dishes: {type: array}}}
extract_last: true
attachments: [a.png]
attachment_types: [{type: image/webp, value: b}]
fragments: [notes.txt]
system_fragments: [x]
tools: [t]
functions: "def f(): pass"
"""
    template = templates.parse(definition)
    assert template.variables() == ["count", "input", "voice"]
    assert template.attachments == (("a.png", None), ("notes.txt", None), ("b", "image/webp"))
    assert (template.extract, template.ignored) == ("last", ("system_fragments", "tools", "functions"))
    found = templates.fill(template, "fish", {"count": "3"})
    assert found.prompt == "Suggest 3 dishes of fish for $5\n"
    assert found.options == {
        "model": "gpt-4o-mini",
        "system": "You speak as a pirate",
        "schema": {"type": "object", "properties": {"dishes": {"type": "array"}}},
        "parameters": {"temperature": 0.5, "max_tokens": 300},
    }


def test_which_code_block_is_wanted_and_dates_are_read_as_llm_has_them() -> None:
    assert templates.parse("prompt: x\nextract: true").extract == "first"
    assert templates.parse("prompt: x").extract is None
    assert filled("prompt: Since $day\ndefaults: {day: 2020-01-01}") == "Since 2020-01-01"


def test_a_price_in_dollars_or_a_lone_brace_is_no_variable() -> None:
    assert filled("It costs $5 or {5}, $ 3.") == "It costs $5 or {5}, $ 3."


@pytest.mark.parametrize(
    ("definition", "variables", "words"),
    [
        ("Hi {{ name }}", {}, "the template needs name (-p name VALUE)"),
        ("Hi $name and ${other}", {}, "the template needs name, other (-p name VALUE -p other VALUE)"),
        ("Hi {{ input }}", {}, "the template needs an input"),
        ("Hi {{ name }}", {"name": "x", "nmae": "y"}, 'the template has no variable "nmae" (it has name)'),
        ("Hi {{ name.first }}", {"name": "x"}, "cannot be filled"),
        ("Hi {{ name + 1 }}", {"name": "x"}, "cannot be filled"),
    ],
)
def test_variables_are_strict(definition: str, variables: dict[str, str], words: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        filled(definition, **variables)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "definition",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ input.__init__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'x' as y %}",
        "{{ 9 ** 9 ** 9 ** 9 ** 9 }}",
        "{{ 'a' * 10 ** 10 }}",
        "{{ ['a'] * 10 ** 10 }}",
        "{{ range(10 ** 9) | list }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%999999999d' | format(1) }}",
        "{{ 'a'.ljust(10 ** 10) }}",
        "{{ 'a' | center(10 ** 10) }}",
        "{{ '{:>9999999999}'.format(1) }}",
        "{{ lipsum(10 ** 6) }}",
        "{% set x = [] %}{{ x.append(1) }}",
        "{% for i in range(90000) %}{% for j in range(90000) %}{{ i }}aaaaaaaaaaaaaaaaaaaa{% endfor %}{% endfor %}",
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{% for i in range(90000) %}{% set x = range(90000) | list %}{% endfor %}",
        "{{ 'a' * 49000000 }}{{ 'a' * 49000000 }}",
        "{% set n = namespace(s='aaaaaaa') %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(s='aaaaaaa') %}{% for i in range(40) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% set n = namespace(s=7) %}{% for i in range(40) %}{% set n.s = n.s * n.s %}{% endfor %}",
        "{% set n = namespace(s=[1]) %}{% for i in range(40) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
        "{% set n = namespace(s=[1]) %}{% for i in range(40) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s | string }}",
        "{% set n = namespace(s='a') %}{% for i in range(40) %}{% set x %}{{ n.s }}{{ n.s }}{% endset %}"
        "{% set n.s = x %}{% endfor %}",
        "{{ [1] | tojson(indent=1000000000) }}",
        "{{ [1, 2] | slice(1000000000) | list | length }}",
        "{{ range(10) | batch(1000000000, 'x') | list }}",
        "{{ ''.join(['a' * 40000000] * 100) }}",
        "{{ ['a' * 40000000, 'a' * 40000000] | join }}",
        "{{ ('a' * 1000000) | replace('a', 'b' * 100000) }}",
        "{{ [[1] * 1000000] * 1000000 }}",
        "{{ range(99999) | join('a' * 100000) }}",
        "{{ 'a'.replace('a', 'b' * 1000) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_the_sandbox_holds(definition: str) -> None:
    with pytest.raises(errors.InvalidInput):
        filled("prompt: " + json.dumps(definition), "x")


def test_what_templates_are_made_of_works() -> None:
    definition = """
{%- set words = input.split() -%}
{% for word in words if word != "b" %}{{ loop.index }}.{{ word | upper }} {% endfor -%}
{{ words | join("+") }} {{ "x" ~ (1 + 1) ~ "y" }} {{ "=" * 3 }} {{ words | map("title") | list }}
{%- if none_given is defined %}!{% endif %} {{ {"a": [1, "ü"]} | tojson }} {{ "a-b" | replace("-", "_") }} {{ 7 * 6 }}
{%- set kept %}[{{ words | length }}]{% endset %} {{ kept }} {{ input | default("none") | trim | truncate(4, leeway=0) }}"""
    assert filled("prompt: " + json.dumps(definition), "a b c", none_given=1) == (
        """1.A 2.C a+b+c x2y === ['A', 'B', 'C']! {"a":[1,"ü"]} a_b 42 [3] a..."""
    )


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ("", "a template is a text, or a mapping"),
        ("[1, 2]", "a template is a text, or a mapping"),
        ("{}", "a template is a text, or a mapping"),
        ("prompt: [1]", 'the "prompt" of the template'),
        ("prmpt: x", 'a template has no "prmpt"'),
        ("prompt: {{ x", "no YAML"),
        ("prompt: '{{ x'", "the template is wrong in line 1"),
        ("prompt: '{% for %}'", "the template is wrong in line 1"),
        ("a: &a [x]\nprompt: *a", "an alias (*) is not for templates"),
        ("prompt: !!python/object/apply:os.system ['true']", "no YAML"),
        ("prompt: x\noptions: {temperature: hot}", "temperature is a number"),
        ("prompt: x\noptions: {api_key: abc}", "keys come from the environment"),
        ("prompt: x\nschema_object: {type: nothing}", "no JSON Schema"),
        ("prompt: " + "[" * 5000, "no YAML"),
        ("x" * 2_000_000, "at most 1024 KiB"),
    ],
    ids=range(15),
)
def test_what_is_no_template_is_refused_in_one_line(definition: str, words: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        templates.parse(definition)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_names_are_kept_changed_and_forgotten(database: db.Database) -> None:
    row = templates.add("review", "Review {{ input }}")
    with pytest.raises(errors.Conflict):
        templates.add("review", "other")
    for name in ("", "two words", "a/b", "@last", "x.yaml"):
        with pytest.raises(errors.InvalidInput):
            templates.add(name, "x")
    assert templates.get(row.uuid[:6]).name == "review"
    assert templates.edit("review", "prompt: Look at {{ input }}").definition == "prompt: Look at {{ input }}"
    assert templates.rename("review", "look").name == "look"
    assert [found.name for found in templates.find()] == ["look"]
    templates.remove("look")
    with pytest.raises(errors.NotFound):
        templates.get("look")


def test_the_command_saves_shows_and_uses_a_template(run: Command, tmp_path: Path) -> None:
    saved = run(
        "template", "add", "review", "--prompt", "Review this {{ language }}: {{ input }}", "-p", "language", "Python",
        "-m", "echo/echo", "-s", "Be terse.", "-o", "temperature", "0.2",
    )  # fmt: skip
    assert saved.status == 0
    shown = json.loads(run("template", "show", "review", "--json").out)
    assert shown["variables"] == ["input", "language"]
    assert (shown["model"], shown["defaults"], shown["parameters"]) == (
        "echo/echo", {"language": "Python"}, {"temperature": 0.2}
    )  # fmt: skip
    assert run("chat", "-t", "review", stdin="x = 1\n").out == "Review this Python: x = 1\n"
    assert run("chat", "-t", "review", "-p", "language", "C", "y").out == "Review this C: y\n"
    session = json.loads(run("show", "@last", "--json").out)
    assert (session["system_prompt"], session["model"]) == ("Be terse.", "echo/echo")
    assert json.loads(run("list", "--meta", "template=review", "--json").out)[0]["title"] == "Review this C: y"
    file = tmp_path / "daily.yaml"
    file.write_text(run("template", "show", "review").out)
    assert run("chat", "-t", str(file), "z").out == "Review this Python: z\n"
    assert run("template", "add", "daily", str(file)).status == 0
    assert run("template", "add", "piped", "-", stdin="Count to {{ n }}.").status == 0
    assert [row["name"] for row in json.loads(run("template", "list", "--json").out)] == ["daily", "piped", "review"]
    assert run("chat", "-t", "piped", "-p", "n", "3", "-m", "echo/echo").out == "Count to 3.\n"
    refused = run("chat", "-t", "piped", "-m", "echo/echo")
    assert (refused.status, refused.err) == (2, "Error: the template needs n (-p n VALUE)\n")
    assert run("template", "edit", "piped", "--name", "count").status == 0
    assert run("template", "edit", "count", "-", stdin="Count.").out == "Count.\n"
    assert run("template", "remove", "count").status == 2
    assert run("template", "remove", "count", "--yes").status == 0
    assert run("template", "show", "count").status == 3


def test_given_options_go_before_the_templates(run: Command) -> None:
    definition = "prompt: hi\nmodel: openai/none\noptions: {temperature: 0.1, seed: 1}\ntools: [x]"
    assert run("template", "add", "t", "-", stdin=definition).status == 0
    done = run("chat", "-t", "t", "-m", "echo/echo", "-o", "seed", "2", "--json")
    assert "Not used of the template: tools." in done.err
    db.connect()
    session = json.loads(run("show", "@last", "--json").out)
    assert session["parameters"] == {"seed": 2}
    assert json.loads(done.out)["model"] == "echo/echo"


def test_a_variable_without_a_template_is_refused(run: Command) -> None:
    assert run("chat", "hi", "-p", "x", "1", "-m", "echo/echo").status == 2
