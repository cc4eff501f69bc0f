"""Any text is a query; words, phrases, exclusions, scripts without spaces, substrings; snippets; filters."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from llmsess import db, errors, search, sessions
from llmsess.search import SearchFilter
from llmsess.snippets import END, START, snippet
from tests.conftest import FUZZ


@pytest.fixture
def said(database: db.Database) -> None:
    first = sessions.create("Sky", project="physics", model="echo/echo", tags=["blue"])
    sessions.append(first, "user", "why is the sky blue?", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    sessions.append(
        first, "assistant", "It's the scattering; see user_id, foo-bar 0.36 and C++.", reasoning="think of Rayleigh"
    )
    second = sessions.create("Clouds")
    sessions.append(second, "user", "the sky has clouds, café naïve", created_at=datetime(2026, 2, 1, tzinfo=UTC))
    sessions.append(
        second, "assistant", [{"type": "tool_use", "id": "1", "name": "grep", "input": {"pattern": "thunder"}}]
    )
    sessions.append(second, "user", "数据库连接失败，请检查 ServerError 配置")


def contents(query: str, **options: object) -> list[str]:
    return [hit.snippet for hit in search.find(query, SearchFilter(**options))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "hits"),
    [
        ("sky", 2),
        ("sky clouds", 1),
        ("sky AND clouds", 1),
        ("sky -clouds", 1),
        ("sky NOT clouds", 1),
        ("clouds OR blue", 2),
        ('"the sky"', 2),
        ('"sky the"', 0),
        ("scatter*", 1),
        ("-sky", 0),
        ("NOT sky", 0),
        ("NOT sky NOT blue", 0),
        ("NOT clouds sky", 1),
        ("blue OR NOT sky", 1),
        ('"NOT sky"', 0),
        ("sky AND NOT clouds", 1),
        ("sky NOT (clouds OR blue)", 0),
        ("NOT", 0),
        ("it's", 1),
        ("foo-bar", 1),
        ("0.36", 1),
        ("C++", 1),
        ("user_id", 1),
        ("cafe", 1),
        ("NAIVE", 1),
        ("Rayleigh", 1),
        ("thunder", 0),
        ("连接", 1),
        ("数据库连接", 1),
        ("连接 ServerError", 1),
        ("连接 -检查", 0),
        ("连接 OR 不存在", 1),
        ("检", 1),
        ("erverErr", 1),
        ('"unbalanced', 0),
        ("sky)", 2),
        ("", 0),
        ("*", 0),
        ("AND OR", 0),
        ("sky\x00", 2),
        ("content: sky", 0),
        ("sky -clouds -blue", 0),
    ],
)
def test_queries(said: None, query: str, hits: int) -> None:
    assert len(contents(query)) == hits


@pytest.mark.parametrize(
    ("query", "hits"),
    [
        ("rm -rf /tmp", 1),
        ("RM -RF /tmp", 1),
        ("do NOT run it", 1),
        ("git push --force", 1),
        ("rm -rf /home", 0),
        ("rm -tmp", 0),  # an exclusion that holds is no text
        ("-rf", 0),
        ("->", 1),
        ("🚀", 1),
        ("🛸", 0),
        ("{}", 1),
        ("%", 0),
        ("(", 1),
        (";", 1),
        ("# ", 1),
        ("AND", 0),
        ("NOT", 1),
        ('rm -rf "/tmp"', 0),
    ],
)
@pytest.mark.parametrize("sort", ["relevance", "newest"])
def test_pasted_text_with_marks_is_found_as_it_stands(database: db.Database, query: str, hits: int, sort: str) -> None:
    session = sessions.create("Paste")
    sessions.append(session, "user", "never type rm -rf /tmp; do NOT run it, nor git push --force")
    sessions.append(session, "user", "def f() -> dict: return {}  # 🚀")
    found = contents(query, sort=sort)
    assert len(found) == hits
    assert all("<mark>" in snippet for snippet in found)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("(蓝色 OR 红色) 天空", {"天空 蓝色", "天空 红色"}),
        ("天空 -(蓝色 OR 红色)", {"天空 alpha"}),
        ("天空 NOT 蓝色", {"天空 红色", "天空 alpha"}),
        ("alpha 天空", {"天空 alpha"}),
        ("alpha -蓝色", {"天空 alpha", "alpha beta", "alpha gamma"}),
        ("(NOT beta) alpha", {"天空 alpha", "alpha gamma", "alpha 蓝色"}),
        ("(-beta) alpha", {"天空 alpha", "alpha gamma", "alpha 蓝色"}),
        ("lpha beta", {"alpha beta"}),
        ("lpha -beta", {"天空 alpha", "alpha gamma", "alpha 蓝色", "alphabet soup"}),
        ("lpha lphabe", {"alphabet soup"}),
    ],
)
def test_brackets_exclusions_and_parts_of_words(database: db.Database, query: str, found: set[str]) -> None:
    texts = [
        "天空 蓝色",
        "天空 红色",
        "天空 alpha",
        "蓝色 海",
        "alpha 蓝色",
        "alpha beta",
        "alpha gamma",
        "alphabet soup",
    ]
    sessions.extend(sessions.create("x"), [("user", text) for text in texts])
    assert {hit.replace("<mark>", "").replace("</mark>", "") for hit in contents(query)} == found


def test_tools_are_searched_only_when_asked(said: None) -> None:
    assert contents("thunder") == []
    assert len(contents("thunder", scopes=("tools",))) == 1
    assert contents("Rayleigh", scopes=("content",)) == []
    with pytest.raises(errors.InvalidInput):
        contents("x", scopes=("dreams",))


def test_filters(said: None) -> None:
    assert len(contents("sky", project="physics")) == 1
    assert len(contents("sky", tag="BLUE")) == 1
    assert len(contents("sky", model="echo/echo")) == 1
    assert len(contents("sky", roles=("assistant",))) == 0
    assert len(contents("sky", since=datetime(2026, 1, 15, tzinfo=UTC))) == 1
    assert len(contents("sky", until=datetime(2026, 1, 15, tzinfo=UTC))) == 1
    assert len(contents("sky", type="imported")) == 0
    with pytest.raises(errors.NotFound):
        contents("sky", project="absent")


def test_newest_first_goes_by_the_time_it_was_said(said: None) -> None:
    assert [s[:12] for s in contents("sky", sort="newest")] == ["the <mark>sk", "why is the <"]
    with pytest.raises(errors.InvalidInput):
        contents("sky", sort="loudest")


def test_a_hit_says_where_it_is(said: None) -> None:
    hit = next(iter(search.find("blue")))
    assert (hit.session_title, hit.position, hit.role, hit.created_at) == (
        "Sky",
        1,
        "user",
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert hit.snippet == "why is the sky <mark>blue</mark>?"
    assert hit.score > 0


def test_no_query_ever_fails(said: None) -> None:
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    alphabet = "ab\"'*-()+:^{}AND OR NOT NEAR/\\.,;\x00\ud800数据 é🚀%_\n\t"
    for _ in range(3000 * FUZZ):
        query = "".join(rng.choices(alphabet, k=rng.randint(0, 30)))
        for hit in search.find(query):
            assert len(hit.snippet) <= 300, (seed, query)


def test_a_very_long_query(said: None) -> None:
    assert len(search.find("sky " * 20_000)) == 2
    assert len(search.find(" OR ".join(["sky"] * 5_000))) == 2
    assert len(search.find("(" * 5_000 + "sky")) == 2
    assert len(search.find("数据库 " * 5_000)) == 1
    assert len(search.find("数据库" + "字" * 60_000)) == 0
    assert len(search.find(" OR ".join(["数据库"] * 5_000))) == 1
    for query in (
        "[" * 60_000,
        "%" * 1_000_000,
        "💥" * 100_000,
        "x" * 1_000_000,
        "NEAR(" * 10_000,
        "-(" * 10_000 + "x",
        "rm -" * 60_000,
    ):
        assert len(search.find(query)) == 0


def test_pending_replies_are_not_found_until_they_are_settled(database: db.Database) -> None:
    session = sessions.create("x")
    message = sessions.append(session, "assistant", "half a unicorn")
    database.execute_sql("UPDATE messages SET status = 'streaming'")
    assert len(search.find("unicorn")) == 0
    database.execute_sql("UPDATE messages SET status = 'complete' WHERE id = ?", (message.id,))
    assert len(search.find("unicorn")) == 1
    database.execute_sql("INSERT INTO messages_fts (messages_fts, rank) VALUES ('integrity-check', 1)")


def test_a_message_of_a_deleted_session_is_found_in_the_branch_that_keeps_it(database: db.Database) -> None:
    session = sessions.create("gone")
    sessions.extend(session, [("user", "a unicorn"), ("user", "a dragon")])
    branch = sessions.fork(session, sessions.path(session)[0], title="kept")
    sessions.delete(session)
    [hit] = search.find("unicorn")
    assert (hit.session_id, hit.session_title) == (branch.uuid, "kept")
    assert len(search.find("dragon")) == 0


def test_where_too_many_match_the_newest_are_ranked(database: db.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "RANKED", 5)
    session = sessions.create("x")
    sessions.extend(session, [("user", f"word {i}") for i in range(8)])
    found = search.find("word")
    assert found.truncated
    assert {hit.position for hit in found} == {4, 5, 6, 7, 8}
    assert not search.find("word 3").truncated


# Snippets


def test_a_snippet_keeps_to_300_characters_whatever_the_text() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        pieces = rng.choices(
            ["word ", "x" * 400, START + "hit" + END, START + "y" * 500 + END, "\x1b[31m", "\n\t", "é"],
            k=rng.randint(0, 30),
        )
        found = snippet("".join(pieces))
        assert len(found) <= 300
        assert found.count("<mark>") == found.count("</mark>")
        assert START not in found and END not in found and "\x1b" not in found and "\n" not in found


def test_a_snippet_shows_the_match_with_what_is_around_it() -> None:
    text = "a " * 500 + f"before {START}match{END} after" + " b" * 500
    found = snippet(text)
    assert "before <mark>match</mark> after" in found
    assert found.startswith("…") and found.endswith("…")


@pytest.mark.parametrize("length", range(270, 310))
@pytest.mark.parametrize("marks", [0, 1, 3, 9])
def test_a_snippet_ends_with_an_ellipsis_only_where_it_is_cut(length: int, marks: int) -> None:
    text = f"{START}a{END} " * marks + "b" * (length - marks * 2)
    found = snippet(text)
    plain = found.replace("<mark>", "").replace("</mark>", "")
    assert len(found) <= 300
    assert plain.rstrip("…") == text.replace(START, "").replace(END, "")[: len(plain.rstrip("…"))]
    assert found.endswith("…") == (len(plain.rstrip("…")) < length)
    assert found.count("<mark>") == marks


@pytest.mark.parametrize("sort", ["relevance", "newest"])
def test_a_common_word_in_some_sessions_is_found_as_a_rare_one_is(
    database: db.Database, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    for i in range(6):
        session = sessions.create(f"s{i}", project="odd" if i % 2 else "even", tags=["t"] if i < 3 else [])
        sessions.extend(session, [("user" if n % 2 else "assistant", f"common text {n} " * (n + 1)) for n in range(6)])
    filters = [
        SearchFilter(project="odd", sort=sort), SearchFilter(tag="t", roles="user", sort=sort),
        SearchFilter(project="even", tag="t", since=datetime(2020, 1, 1, tzinfo=UTC), limit=4, sort=sort), SearchFilter(type="single", sort=sort),
    ]  # fmt: skip
    found = [search.find("common", filter) for filter in filters]
    monkeypatch.setattr(search, "COMMON", 3)
    assert [search.find("common", filter) for filter in filters] == found
    assert [len(hits) for hits in found] == [18, 9, 4, 20]
    monkeypatch.setattr(search, "RANKED", 5)
    best = search.find("common", filters[0])
    assert (best.truncated, len(best)) == ((True, 5) if sort == "relevance" else (False, 18))


def test_a_large_text_full_of_matches_is_marked_like_any_other(database: db.Database) -> None:
    session = sessions.create("x")
    sessions.append(session, "user", "some hay, then a needle " * 100_000)
    [hit] = search.find("needle")
    assert "some hay, then a <mark>needle</mark>" in hit.snippet
    assert len(hit.snippet) <= 300


def test_a_word_of_a_megabyte_is_cut(database: db.Database) -> None:
    session = sessions.create("x")
    sessions.append(session, "user", "x" * 1_000_000)
    [hit] = search.find("x" * 1_000_000)
    assert len(hit.snippet) <= 300
