"""Full-text search over messages: any text is a valid query.

Words are ANDed; "phrases", -exclusion, AND, OR and NOT in capitals and prefix* work; a query of exclusions only finds
nothing. Chinese, Japanese, Korean and Thai text is looked for as it stands, since the index knows no words in it; so
are text without words (`->`, an emoji), pasted text whose marks, read as operators, find nothing (`rm -rf /tmp`), and
then the words of a short query inside other words. Hits are ranked by bm25, or newest first on request; where more than
50,000 messages match, the latest stored 50,000 are ranked and `Hits.truncated` says so.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from playhouse.sqlite_ext import FTS5Model

from llmsess import catalog, door
from llmsess.db import database
from llmsess.errors import InvalidInput
from llmsess.models import parse_time
from llmsess.snippets import END, SNIPPET_CHARACTERS, START, snippet
from llmsess.texts import FIELDS, whole

OPERATORS = {"AND", "OR", "NOT"}
NESTED = 16  # brackets of a query; more are pasted text, and FTS5's parser has little room for them
MATCHED_WORDS = 150  # of a query; of a pasted page the beginning is enough, and FTS5 limits how deep an expression is
SCANNED_CHARACTERS = 10_000  # of a term: SQLite's patterns have a limit
INSIDE_TERMS = 10  # of a query whose words are looked for inside words: each is a look at every text
COMMON = 20_000  # hits from which on a filter of sessions is worth listing their messages first
RANKED = 50_000  # hits that are ranked; ranking more takes longer than a person waits
_SCRIPTS = (  # Thai, Hangul, kana, bopomofo, CJK: written without spaces between words
    "\u0e00-\u0e7f\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED = re.compile(f"[{_SCRIPTS}]")
_WORD = re.compile(r"[^\s()\"]+")
_SYMBOLS = re.compile(r"[\W_]*")  # text without words
_NOT = re.compile(r'("[^"]*"?)|(?:(?<=[\s(])|^)NOT\s+(?!(?:AND|OR|NOT)\s)(?=\S)')
_LONE = re.compile(r'\(\s*(-(?:"[^"]*"|[^\s()"]+))\s*\)')  # an exclusion alone in brackets
_MARK = re.compile(r"(?:^|\s)(?:-\S|NOT\s)")  # what may be an exclusion, or a part of pasted text
SCOPES = {"content": "content", "reasoning": "reasoning", "tools": "tool_text"}
DEFAULT_SCOPES = ("content", "reasoning")


@dataclass(frozen=True)
class SearchFilter:
    """Where and what to search; None means any. Times bound when a message was said."""

    roles: str | Sequence[str] = ()
    scopes: str | Sequence[str] = DEFAULT_SCOPES  # of content, reasoning, tools
    project: str | None = None
    model: str | None = None
    tag: str | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    sort: str = "relevance"  # or newest
    limit: int = 20

    def columns(self) -> list[str]:
        """Return the indexed columns to search; raises InvalidInput for an unknown scope."""
        scopes = door.words(self.scopes)
        unknown = [scope for scope in scopes if scope not in SCOPES]
        if unknown or not scopes:
            raise InvalidInput(f'"{", ".join(unknown)}" is nothing to search in', hint=f"--in {', '.join(SCOPES)}")
        return [SCOPES[scope] for scope in scopes]

    def message_conditions(self) -> tuple[list[str], list[Any]]:
        """Return SQL conditions over `messages m` of `sessions s` and their values; raises NotFound, InvalidInput."""
        wheres: list[str] = []
        values: list[Any] = []
        roles = door.words(self.roles)
        if roles:
            wheres.append(f"m.role IN ({', '.join('?' * len(roles))})")
            values.extend(door.role(role, "role") for role in roles)
        if self.model is not None:
            wheres.append("coalesce(m.model_id, s.model_id) = ?")
            values.append(catalog.known_model_id(self.model))
        for test, moment in door.between("m.created_at", self.since, self.until):
            wheres.append(test)
            values.append(moment)
        return wheres, values

    def session_conditions(self) -> tuple[list[str], list[Any]]:
        """Return SQL conditions over `sessions s` alone and their values; raises NotFound, InvalidInput."""
        wheres: list[str] = []
        values: list[Any] = []
        if self.project is not None:
            wheres.append("s.project_id = ?")
            values.append(catalog.known_project_id(self.project))
        if self.tag is not None:
            wheres.append("s.id IN (SELECT session_id FROM session_tags WHERE tag = ?)")
            values.append(door.text(self.tag, "a tag").lower())
        if self.type is not None:
            wheres.append("s.session_type = ?")
            values.append(door.session_type(self.type, "session type"))
        return wheres, values


class Hit(NamedTuple):
    """A message that matches. `score` is higher for better, 0 where hits are not ranked."""

    session_id: str
    session_title: str | None
    message_id: str
    position: int
    role: str
    created_at: datetime | None
    snippet: str
    score: float


@dataclass(frozen=True)
class Hits:
    """The best hits, and whether there were more than can be ranked."""

    hits: list[Hit] = field(default_factory=list)
    truncated: bool = False

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)


def find(query: str, filter: SearchFilter | None = None) -> Hits:
    """Return the messages that match a query, best first; every text is a query.

    `filter` is a SearchFilter: roles, scopes (content, reasoning, tools), project, model, tag, type, since, until, sort
    (relevance, newest), limit. Raises InvalidInput for a filter that cannot be, NotFound for a project or model.
    """
    chosen = filter or SearchFilter()
    if not isinstance(chosen, SearchFilter):
        raise InvalidInput(f"a filter is a SearchFilter, not {type(chosen).__name__}")
    door.count(chosen.limit, "limit")
    if chosen.sort not in ("relevance", "newest"):
        raise InvalidInput(f'"{chosen.sort}" is no order', hint="--sort relevance or newest")
    text = door.text(query, "a query").replace("\ufffd", " ").strip()
    if _UNSPACED.search(text):
        return _inside(match_expression(text), chosen)
    if _SYMBOLS.fullmatch(text) or set(text.split()) <= OPERATORS:
        return _literally(text, chosen) if text else Hits()
    match = match_expression(text)
    if match is None:
        return Hits()
    wanted = wanted_terms(match)
    found = _ranked(match, chosen, wanted)
    return found if found.hits else _as_it_stands(text, match, wanted, chosen)


def match_expression(text: str) -> str | None:
    """Return a query as FTS5 syntax, None where nothing is looked for; playhouse repairs whatever is odd."""
    # FTS5Model itself has no columns, so that "reasoning: x" in pasted text is words, not a column filter.
    # NOT becomes a minus, for it is dropped where nothing stands before it: "NOT x" must not find x.
    words = _NOT.sub(lambda found: found[1] or "-", _beginning(text))
    words = _LONE.sub(r"\1", words)
    if words.count("(") > NESTED:
        words = words.replace("(", " ").replace(")", " ")
    expression = FTS5Model.web_query(words)
    return None if expression == '""' else expression


def _beginning(text: str) -> str:
    """Return the text up to its first so many words, counted as the index does."""
    ends = [match.end() for match in itertools.islice(_WORD.finditer(text), MATCHED_WORDS)]
    return " ".join(text[: ends[-1]].split()) if len(ends) == MATCHED_WORDS else " ".join(text.split())


# Ranked search in the index

_FROM = "FROM messages_fts f CROSS JOIN messages m ON m.id = f.rowid CROSS JOIN sessions s ON s.id = m.session_id"
_ROW = "CASE s.status WHEN 'deleted' THEN NULL ELSE s.uuid END, s.title, m.uuid, m.position, m.role, m.created_at"
_LIVING = """
    WITH RECURSIVE below (id) AS (
        SELECT id FROM messages WHERE uuid = ? UNION SELECT m.id FROM below b JOIN messages m ON m.parent_id = b.id
    )
    SELECT s.uuid, s.title FROM below b CROSS JOIN messages m ON m.id = b.id
    JOIN sessions s ON s.id = m.session_id OR s.id IN (SELECT h.id FROM sessions h WHERE h.head_id = b.id)
    WHERE s.status <> 'deleted' ORDER BY s.head_id = b.id DESC, s.last_activity_at DESC LIMIT 1
"""
_MARKS = ", ".join(  # highlight() copies what it has at every match, so a large text is marked by _mark_terms()
    f"CASE WHEN m.{name}_sha256 IS NULL THEN highlight(messages_fts, {i}, '{START}', '{END}') "
    f"ELSE {whole('m', name)} END"
    for i, name in enumerate(FIELDS)
)


def _ranked(match: str, filter: SearchFilter, words: list[str], literal: str | None = None) -> Hits:
    """Return the best hits of an FTS5 expression; `literal` is what must also stand so in a searched text."""
    columns = filter.columns()
    expression = match if len(columns) == len(FIELDS) else f"{{{' '.join(columns)}}} : ({match})"
    where = _Where(expression, filter)
    if literal is not None:
        where.add(_test(literal, [whole("m", name) for name in columns], where.values))
    truncated = filter.sort == "relevance" and where.floor()
    if filter.sort == "newest":
        rows = _in_two_steps(where, "0.0", "m.created_at DESC, m.id DESC", filter.limit)
    elif where.narrowed:  # else FTS5 ranks every hit before the first is filtered
        rows = _in_two_steps(where, "bm25(messages_fts)", "2", filter.limit)
    else:  # MATCH stays outermost and sorts by rank itself, so that marks are made for the rows shown only
        sql = f"SELECT {_ROW}, f.rank, {_MARKS} {_FROM} WHERE {where.sql()} ORDER BY f.rank LIMIT ?"
        rows = database.execute_sql(sql, [*where.values, filter.limit]).fetchall()
    hits = [_hit(row[:6], 0.0 - row[6], _marked(row[7:], columns, words)) for row in rows]
    return Hits(_reachable(hits), truncated)


def _in_two_steps(where: _Where, score: str, order: str, limit: int) -> list[Any]:
    """Return the first rows of an order: their ids, then marks for those only."""
    sql = f"SELECT f.rowid, {score} {_FROM} WHERE {where.sql()} ORDER BY {order} LIMIT ?"
    found = database.execute_sql(sql, [*where.values, limit]).fetchall()
    sql = f"SELECT {_ROW}, ?, {_MARKS} {_FROM} WHERE messages_fts MATCH ? AND f.rowid = ?"
    rows = (database.execute_sql(sql, (value, where.values[0], row_id)).fetchone() for row_id, value in found)
    return [row for row in rows if row is not None]  # another process may have deleted one meanwhile


class _Where:
    """The conditions of a search in the index, and their values."""

    def __init__(self, expression: str, filter: SearchFilter) -> None:
        self.tests: list[str] = ["messages_fts MATCH ?"]
        self.values: list[Any] = [expression]
        self.narrowed = False
        self.most: int | None = None  # how many messages there can be, None: not known
        of_sessions, of_messages = filter.session_conditions(), filter.message_conditions()
        if of_sessions[0] and _counted(expression) > COMMON:
            self.narrow(" AND ".join(of_sessions[0]), of_sessions[1])
        for tests, values in (of_sessions, of_messages):
            self.tests += tests
            self.values += values

    def narrow(self, of_sessions: str, values: list[Any]) -> None:
        """Keep a common word's hits to the sessions by their messages' ids: a third of the time of reading each hit."""
        sessions = f"FROM sessions s WHERE {of_sessions}"
        self.most = database.execute_sql(f"SELECT coalesce(sum(total_messages), 0) {sessions}", values).fetchone()[0]
        inside = f"SELECT w.id FROM sessions s CROSS JOIN messages w ON w.session_id = s.id WHERE {of_sessions}"
        self.add(f"+f.rowid IN ({inside})")
        self.values += values
        self.narrowed = True

    def add(self, test: str) -> None:
        self.tests.append(test)

    def sql(self) -> str:
        return " AND ".join(self.tests)

    def floor(self) -> bool:
        """Leave out what is older than the newest hits that can be ranked; return whether there is any."""
        if self.most is not None and self.most <= RANKED:
            return False
        joined = "FROM messages_fts f" if len(self.tests) == 1 else _FROM
        sql = f"SELECT f.rowid {joined} WHERE {self.sql()} ORDER BY f.rowid DESC LIMIT 1 OFFSET ?"
        row = database.execute_sql(sql, [*self.values, RANKED]).fetchone()
        if row is not None:
            self.add("f.rowid > ?")
            self.values.append(row[0])
        return row is not None


def _counted(expression: str) -> int:
    """Return how many messages match, counted as far as it takes to tell a common word."""
    sql = "SELECT count(*) FROM (SELECT 1 FROM messages_fts WHERE messages_fts MATCH ? LIMIT ?)"
    return int(database.execute_sql(sql, (expression, COMMON + 1)).fetchone()[0])


def _marked(texts: Sequence[str | None], columns: Sequence[str], words: list[str]) -> str:
    """Return the first of the searched texts that has a match, marked; else the first that is there."""
    searched = [text for text, name in zip(texts, FIELDS, strict=True) if text and name in columns]
    return next((text for text in searched if START in text), None) or _mark_terms(searched, words)


def _hit(row: Sequence[Any], score: float, marked: str) -> Hit:
    moment = parse_time(row[5]) if row[5] else None
    session, title = row[:2] if row[0] else _branch_of(row[2])
    return Hit(session, title, row[2], row[3], row[4], moment, snippet(marked), round(float(score), 4))


def _reachable(hits: list[Hit]) -> list[Hit]:
    """Return the hits that some session has; the next deletion collects the others."""
    return [hit for hit in hits if hit.session_id]


def _branch_of(message: str) -> tuple[str, str | None]:
    """Return id and title of the session that still has a message of a deleted one, the latest whose path it is on."""
    row = database.execute_sql(_LIVING, (message,)).fetchone()
    return (row[0], row[1]) if row else ("", None)


# Search for text as it stands

_TOKEN = re.compile(r'"(?P<term>[^"]*)"\*?|(?P<mark>[()]|AND|OR|NOT)')


def wanted_terms(expression: str) -> list[str]:
    """Return the terms of an FTS5 expression that a hit may have, those it must not have left out."""
    found: list[str] = []
    depth, unwanted = 0, None  # the depth at which an exclusion began
    for token in _TOKEN.finditer(expression):
        if token["mark"] == "NOT" and unwanted is None:
            unwanted = depth
            continue
        depth += {"(": 1, ")": -1}.get(token["mark"] or "", 0)
        if token["term"] is not None and unwanted is None:
            found.append(token["term"])
        if unwanted is not None and depth <= unwanted and token["mark"] in (None, ")"):
            unwanted = None
    return found


def _as_it_stands(text: str, match: str, wanted: list[str], filter: SearchFilter) -> Hits:
    """Look for a query that found nothing as the text it is, marks no operators; else for its words inside words."""
    if _MARK.search(text):
        words = text.replace('"', " ").split()[:MATCHED_WORDS]
        shown = text if len(words) < MATCHED_WORDS else text[: len(" ".join(words))]
        found = _ranked(f'"{" ".join(words)}"', filter, [shown], literal=shown[:SCANNED_CHARACTERS])
        if found.hits:
            return found
    short = len(wanted) <= INSIDE_TERMS and all(len(term) >= 3 for term in wanted)
    return _inside(match, filter, latin=True) if short else Hits()


def _inside(match: str | None, filter: SearchFilter, *, latin: bool = False) -> Hits:
    """Look for the terms of an FTS5 expression in the texts themselves, words with spaces only if `latin`."""
    if match is None:
        return Hits()
    columns, values = filter.columns(), list[Any]()
    tests = []
    for token in _TOKEN.finditer(match):
        if token["mark"] is not None:
            tests.append("AND NOT" if token["mark"] == "NOT" else token["mark"])
        elif latin or _UNSPACED.search(token["term"]):
            tests.append(_test(token["term"][:SCANNED_CHARACTERS], [whole("m", name) for name in columns], values))
        else:
            tests.append("m.id IN (SELECT rowid FROM messages_fts WHERE messages_fts MATCH ?)")
            values.append(f"{{{' '.join(columns)}}} : {token[0]}")
    return _scan(" ".join(tests), values, wanted_terms(match), filter)


def _literally(text: str, filter: SearchFilter) -> Hits:
    """Look for a text that the index knows no word of."""
    values: list[Any] = []
    test = _test(text[:SCANNED_CHARACTERS], [whole("m", name) for name in filter.columns()], values)
    return _scan(test, values, [text], filter)


def _scan(test: str, tested: list[Any], wanted: list[str], filter: SearchFilter) -> Hits:
    """Return the newest messages that pass a test, the cheap conditions before."""
    wheres, values = map(list.__add__, filter.session_conditions(), filter.message_conditions())
    searched = ", ".join(whole("m", name) for name in filter.columns())
    order = "m.created_at DESC, m.id DESC" if filter.sort == "newest" else "m.id DESC"
    wheres = [*wheres, "m.status NOT IN ('pending', 'streaming')", f"({test})"]
    sql = (
        f"SELECT {_ROW}, {searched} FROM messages m CROSS JOIN sessions s ON s.id = m.session_id "
        f"WHERE {' AND '.join(wheres)} ORDER BY {order} LIMIT ?"
    )
    rows = database.execute_sql(sql, [*values, *tested, filter.limit]).fetchall()
    return Hits(_reachable([_hit(row[:6], 0.0, _mark_terms(row[6:], wanted)) for row in rows]))


def _test(term: str, searched: list[str], values: list[Any]) -> str:
    """Return the test for a term in any searched text. Measured: LIKE takes a quarter of the time of instr()."""
    escaped = term.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    values.extend([f"%{escaped}%"] * len(searched))
    return "(" + " OR ".join(f"coalesce({text} LIKE ? ESCAPE '\\', 0)" for text in searched) + ")"


def _mark_terms(texts: Sequence[str | None], wanted: list[str]) -> str:
    """Return what is around the first term in the first text that has one, the terms marked."""
    looked_for = [r"\W+".join(map(re.escape, re.findall(r"\w+", term))) or re.escape(term) for term in wanted]
    pattern = re.compile("|".join(sorted(looked_for, key=len, reverse=True)) or "(?!)", re.IGNORECASE)
    for text in texts:
        found = pattern.search(text) if text else None
        if text and found:
            begin = max(0, found.start() - 2 * SNIPPET_CHARACTERS)
            window = text[begin : found.start() + 4 * SNIPPET_CHARACTERS]
            return pattern.sub(lambda match: f"{START}{match[0]}{END}", window)
    return next((text for text in texts if text), "")
