"""Structured content goes into fields and comes back exactly."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmsess.parts import pack, unpack

text = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
said = st.fixed_dictionaries({"type": st.just("text"), "text": text})
thought = st.fixed_dictionaries({"type": st.just("thinking"), "thinking": text, "signature": text})
image = st.builds(
    lambda data: {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(data).decode()}},
    st.binary(max_size=30),
)  # fmt: skip
called = st.fixed_dictionaries(
    {"type": st.just("tool_use"), "id": text, "name": text, "input": st.dictionaries(text, json_values, max_size=3)}
)
answered = st.fixed_dictionaries(
    {
        "type": st.just("tool_result"),
        "tool_use_id": text,
        "content": text | st.lists(said | image, max_size=3) | st.none(),
    }
)
function = st.fixed_dictionaries(
    {"type": st.just("function"), "function": st.fixed_dictionaries({"name": text, "arguments": text})}
)
odd = st.dictionaries(st.sampled_from(["type", "json", "x"]), text | json_values, max_size=3)
anything: st.SearchStrategy[Any] = st.sampled_from(
    [{}, [], "s", 5, None, ["a", "b"], ["content", 0, 3], ["blob", 0], "data:image/png;base64,AAAA"]
)
image_url = st.fixed_dictionaries({"url": anything | st.just("data:image/png;base64,AAAA")}) | anything
source = st.fixed_dictionaries({"type": st.just("base64"), "data": anything | st.just("AAAA")}) | anything
kinds = [
    "text",
    "thinking",
    "reasoning",
    "refusal",
    "tool_use",
    "tool_result",
    "function",
    "image",
    "image_url",
    "document",
    "x",
]
mixed = st.fixed_dictionaries(
    {"type": st.sampled_from(kinds)},
    optional={
        "text": text | anything, "thinking": anything, "input": anything, "content": text | anything, "source": source,
        "image_url": image_url, "function": st.fixed_dictionaries({"arguments": text | anything}) | anything, "name": anything,
    },
)  # fmt: skip
blocks = st.lists(said | thought | image | called | answered | function | text | odd | mixed, max_size=6)


def restored(content: list[Any]) -> Any:
    packed = pack(content)
    stored = None if packed.parts is None else json.loads(json.dumps(packed.parts))
    fields = {"content": packed.content, "reasoning": packed.reasoning, "tool_text": packed.tool_text}
    return unpack(fields, stored, lambda n: packed.attachments[n].data)


@given(blocks)
def test_unpack_gives_back_what_was_packed(content: list[Any]) -> None:
    back = restored(content)
    if back is None:
        assert content == [{"type": "text", "text": pack(content).content}]
    else:
        assert back == content


def test_text_is_stored_once_and_where_it_is_searched() -> None:
    packed = pack([
        {"type": "thinking", "thinking": "hmm"},
        {"type": "text", "text": "one"},
        {"type": "text", "text": "two"},
        {"type": "tool_use", "id": "t1", "name": "Read", "input": {"path": "/a"}},
        {"type": "tool_result", "tool_use_id": "t1", "content": "the file"},
    ])  # fmt: skip
    assert packed.content == "one\n\ntwo"
    assert packed.reasoning == "hmm"
    assert packed.tool_text == 'Read {"path":"/a"}\n\nthe file'
    assert "the file" not in json.dumps(packed.parts)


def test_a_plain_text_needs_no_parts() -> None:
    assert pack("hello").parts is None
    assert pack([{"type": "text", "text": "hello"}]).parts is None
    assert pack(None).content == ""


def test_bytes_become_an_attachment() -> None:
    url = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    packed = pack([{"type": "image_url", "image_url": {"url": url}}])
    assert packed.attachments == [("image/png", b"\x89PNG")]
    assert restored([{"type": "image_url", "image_url": {"url": url}}]) == [
        {"type": "image_url", "image_url": {"url": url}}
    ]


def test_nul_and_lone_surrogates_are_replaced() -> None:
    assert pack("a\x00b\ud800c").content == "a\ufffdb\ufffdc"
    assert pack([{"type": "text", "text": "\x00"}, {"type": "text", "text": "x"}]).content == "\ufffd\n\nx"
