"""Reading SQL text without a server: tokens, statements, psycopg placeholders, line numbers.

The lexer follows PostgreSQL's own (src/backend/parser/scan.l) with standard_conforming_strings on, and psql's
rule for where a statement ends: a semicolon outside quotes, comments, parentheses and BEGIN ATOMIC … END.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from rootstream_store.errors import QueryError

__all__ = [
    "Fault",
    "Statement",
    "Token",
    "first_fault",
    "line_column",
    "parameters",
    "split_statements",
    "tokens",
]

Kind = Literal["comment", "string", "name", "word", "number", "symbol", "backslash"]


class Token(NamedTuple):
    """One lexical element: text[start:end]. White space is no token.

    `kind` is "string" for every quoted constant, "name" for a "quoted identifier", "word" for keywords and
    plain identifiers, "backslash" for a psql meta-command. `closed` is False for a quote or comment that runs
    to the end of the text.
    """

    kind: Kind
    start: int
    end: int
    closed: bool = True


class Statement(NamedTuple):
    """One statement without its semicolon, from its first to its last token that is no comment. `offset`
    counts characters from the start of the text it was cut from."""

    text: str
    offset: int


class Fault(NamedTuple):
    """Why a text cannot be SQL for the server: `message`, found at character `offset`."""

    message: str
    offset: int


_LINE_COMMENT = re.compile(r"--[^\n\r]*")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_QUOTED_NAME = re.compile(r'(?:[uU]&)?"(?:[^"]|"")*("?)')
_PLAIN_STRING = re.compile(r"(?:[uU]&|[bBxXnN])?'(?:[^']|'')*('?)")
# E'a' <newline> 'b' is one constant (SQL's continuation), so backslashes escape in the second part as well.
_CONTINUED = r"(?:[ \t\f\v]|--[^\n\r]*)*[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*'"
_ESCAPE_STRING = re.compile(rf"[eE]'(?:[^'\\]|''|\\.)*(?:'{_CONTINUED}(?:[^'\\]|''|\\.)*)*('?)", re.DOTALL)
# Letters, the underscore and all beyond ASCII; the same with digits. Said by what they are not: a class that
# reaches to the last character takes 5 ms to compile, and there are several.
_LETTER = r"[^\x00-\x40\x5b-\x5e\x60\x7b-\x7f]"
_LETTER_OR_DIGIT = r"[^\x00-\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\x7f]"
_DOLLAR_QUOTE = re.compile(rf"\$(?:{_LETTER}{_LETTER_OR_DIGIT}*)?\$")
_WORD = re.compile(rf"{_LETTER}(?:{_LETTER_OR_DIGIT}|\$)*")
_NUMBER = re.compile(rf"\$?[0-9](?:{_LETTER_OR_DIGIT}|\.[0-9])*")


# White space, and nearly all that comes after it, in one step: words that begin with what never begins a
# constant, and what begins no other token than itself.
_EASY = re.compile(
    rf"[ \t\n\r\f\v]*(?:([acdfghijklmopqrstvwyzACDFGHIJKLMOPQRSTVWYZ_](?:{_LETTER_OR_DIGIT}|\$)*)"
    r"|([(),.;:=<>+*%\[\]{}?!&|^~#@]))?"
)


def tokens(text: str) -> Iterator[Token]:
    """The tokens of `text` in order, with comments. Never raises: what is not closed runs to the end."""
    return iter(_tokens(text))


# Each query is looked at several times when it is loaded, one query after the other.
@functools.lru_cache(maxsize=4)
def _tokens(text: str) -> tuple[Token, ...]:
    found: list[Token] = []
    at = 0
    easy, size = _EASY.match, len(text)
    while at < size:
        match = easy(text, at)
        assert match is not None  # all of it is optional
        at = match.end()
        if match[1]:
            found.append(Token("word", match.start(1), at))
        elif match[2]:
            found.append(Token("symbol", at - 1, at))
        elif at < size:
            token = _token(text, at)
            found.append(token)
            at = token.end
    return tuple(found)


def _token(text: str, at: int) -> Token:
    """The token there, which _EASY does not tell."""
    if match := _LINE_COMMENT.match(text, at):
        return Token("comment", at, match.end())
    if text.startswith("/*", at):
        return _block_comment(text, at)
    if match := _ESCAPE_STRING.match(text, at) or _PLAIN_STRING.match(text, at):
        return Token("string", at, match.end(), closed=bool(match[1]))
    if match := _QUOTED_NAME.match(text, at):
        return Token("name", at, match.end(), closed=bool(match[1]))
    if match := _DOLLAR_QUOTE.match(text, at):
        close = text.find(match[0], match.end())
        end = len(text) if close < 0 else close + len(match[0])
        return Token("string", at, end, closed=close >= 0)
    if match := _WORD.match(text, at):
        return Token("word", at, match.end())
    if match := _NUMBER.match(text, at):
        return Token("number", at, match.end())
    return Token("backslash" if text[at] == "\\" else "symbol", at, at + 1)


def _block_comment(text: str, at: int) -> Token:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, at):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return Token("comment", at, edge.end())
    return Token("comment", at, len(text), closed=False)


def first_fault(text: str) -> Fault | None:
    """What makes the text unusable: a quote or comment that never ends, or a psql meta-command (`\\i`)."""
    for token in tokens(text):
        if not token.closed:
            return Fault(f"this {token.kind} is never closed", token.start)
        if token.kind == "backslash":
            command = text[token.start :].split(maxsplit=1)[0]
            return Fault(f"{command} is a psql command, not SQL: the server cannot run it", token.start)
    return None


def split_statements(text: str) -> list[Statement]:
    """The statements of `text`, in order; comments between them, and empty statements, are left out.

    Raises QueryError with line and column for what `first_fault` finds.
    """
    if fault := first_fault(text):
        raise QueryError(f"{_place(text, fault.offset)}: {fault.message}")
    if ";" not in text:
        rest = [token for token in tokens(text) if token.kind != "comment"]
        return [Statement(text[rest[0].start : rest[-1].end], rest[0].start)] if rest else []
    statements: list[Statement] = []
    body = _Body()
    start = end = -1
    for token in tokens(text):
        if token.kind == "comment":
            continue
        piece = text[token.start : token.end]
        if piece == ";" and body.ends_here():
            if start >= 0:
                statements.append(Statement(text[start:end], start))
            start, body = -1, _Body()
            continue
        start = token.start if start < 0 else start
        end = token.end
        body.see(token.kind, piece)
    if start >= 0:
        statements.append(Statement(text[start:end], start))
    return statements


class _Body:
    """Where in a statement we are: inside parentheses (CREATE RULE … DO (a; b)), or inside BEGIN ATOMIC …
    END, where CASE … END nests. Semicolons there do not end the statement. psql keeps the same account."""

    def __init__(self) -> None:
        self._parentheses = 0
        self._blocks = 0
        self._words: list[str] = []
        self._previous = ""

    def ends_here(self) -> bool:
        return self._parentheses == 0 and self._blocks == 0

    def see(self, kind: Kind, piece: str) -> None:
        word = piece.lower() if kind == "word" else ""
        if piece == "(":
            self._parentheses += 1
        elif piece == ")":
            self._parentheses = max(0, self._parentheses - 1)
        elif word and self._parentheses == 0:
            self._see_word(word)
        self._previous = word

    def _see_word(self, word: str) -> None:
        if len(self._words) < 4:
            self._words.append(word)
        if self._blocks == 0:
            if word == "atomic" and self._previous == "begin" and self._makes_routine():
                self._blocks = 1
        elif word in ("begin", "case"):
            self._blocks += 1
        elif word == "end":
            self._blocks -= 1

    def _makes_routine(self) -> bool:
        head = [word for word in self._words if word not in ("or", "replace")]
        return head[:1] == ["create"] and head[1:2] in (["function"], ["procedure"])


_PLACEHOLDER = re.compile(r"%(?:\(([^)]*)\)(.)|(.))?", re.DOTALL)
_NAME = rf'(?:"(?:[^"]|"")+"|{_LETTER}(?:{_LETTER_OR_DIGIT}|\$)*)'
_CAST = re.compile(
    rf"""\s*::\s*(
        (?: double\s+precision\b
          | (?:national\s+)?(?:character|char|bit)\s+varying\b
          | (?:timestamp|time)\s*(?:\(\s*\d+\s*\))?\s*with(?:out)?\s+time\s+zone\b
          | {_NAME}(?:\s*\.\s*{_NAME})*
        )
        (?:\s*\(\s*\d+\s*(?:,\s*-?\d+\s*)?\))?
        (?:\s*\[\s*\d*\s*\])*
    )""",
    re.VERBOSE | re.IGNORECASE,
)


def parameters(text: str) -> list[tuple[str, str | None]]:
    """The `%(name)s` placeholders of a query for psycopg, one entry an occurrence, in order.

    With each the type of the `::type` cast that directly follows, in lower case and single spaces (`bigint`,
    `text[]`, `numeric(10,2)`), None without a cast. `%%` is a literal percent.

    Raises QueryError with line and column for a `%` that is neither, for a positional `%s`, and for a
    placeholder in a comment, a string or a quoted name: psycopg would replace it there too.
    """
    found: list[tuple[str, str | None]] = []
    hidden = [token for token in tokens(text) if token.kind in ("comment", "string", "name")]
    for match in _PLACEHOLDER.finditer(text):
        if match[0] == "%%":
            continue
        name = _placeholder_name(text, match)
        for token in hidden:
            if token.start <= match.start() < token.end:
                raise QueryError(
                    f"{_place(text, match.start())}: placeholder {match[0]} inside a {token.kind}, "
                    "where psycopg would replace it as well"
                )
        cast = _CAST.match(text, match.end())
        found.append((name, _type_name(cast[1]) if cast else None))
    return found


def _placeholder_name(text: str, match: re.Match[str]) -> str:
    place = _place(text, match.start())
    name, conversion = match[1], match[2]
    if name is None:
        if match[3] == "s":
            raise QueryError(f"{place}: %s is positional, write %(name)s")
        raise QueryError(f"{place}: a lone %, write %% for a percent sign or %(name)s for a parameter")
    if conversion != "s" or not name.isidentifier():
        raise QueryError(f"{place}: {match[0]!r} is no parameter, write %(name)s with a Python name")
    return name


def _type_name(text: str) -> str:
    """The type as written, spaces made regular; quoted names keep their letters."""
    pieces = re.split(r'("(?:[^"]|"")+")', text)
    for index in range(0, len(pieces), 2):
        squeezed = re.sub(r"\s+", " ", pieces[index].lower())
        pieces[index] = re.sub(r" ?([(),.\[\]]) ?", _tight, squeezed)
    return "".join(pieces).strip()


def _tight(match: re.Match[str]) -> str:
    # "timestamp(3) with time zone": the space after a bracket separates words there.
    return ") " if match[1] == ")" and match[0].endswith(" ") else match[1]


def line_column(text: str, offset: int) -> tuple[int, int]:
    """Line and column, both from 1, of the character at `offset`. Columns count characters."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _place(text: str, offset: int) -> str:
    line, column = line_column(text, offset)
    return f"line {line}, column {column}"
