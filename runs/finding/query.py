"""The query language for runs: parse a text into a tree; ``search`` gives fields a meaning.

    question    = conjunction, { "or", conjunction } ;
    conjunction = negation, { "and", negation } ;
    negation    = "not", negation | "(", question, ")" | comparison ;
    comparison  = field, ( "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~" ), value
                | field, [ "not" ], "in", "(", value, { ",", value }, ")"
                | field, "is", [ "not" ], "null" ;
    field       = part, { ".", part } ;
    part        = word | quoted text ;
    value       = number | word | quoted text ;

Keywords (``and``, ``or``, ``not``, ``in``, ``is``, ``null``) ignore case. A word consists of
letters, digits and ``_ - / : + @ % *``; a number may have a unit (``90s``, ``2h``). Quotes are
single or double; a backslash escapes the next character. ``str`` of a tree is a question that
parses to the same tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

LONGEST = 4000
DEEPEST = 40
"""The deepest nesting of parentheses and negations."""

OPERATORS = ("==", "!=", "<=", ">=", "!~", "=", "<", ">", "~")
_KEYWORDS = {"and", "or", "not", "in", "is", "null"}


class QueryError(ValueError):
    """An error in a question, at a column (the first is 1)."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"{message} (column {column})")
        self.message, self.column = message, column


@dataclass(frozen=True)
class Value:
    """A value as written; a ``quoted`` one is text, even if it looks like a number."""

    text: str
    quoted: bool = False
    column: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return _quote(self.text) if self.quoted else self.text


@dataclass(frozen=True)
class Comparison:
    """``operator`` is one of ``= != < <= > >= ~ in null``; ``null`` has no values."""

    path: tuple[str, ...]
    operator: str
    values: tuple[Value, ...] = ()
    column: int = field(default=0, compare=False)

    def __str__(self) -> str:
        name = ".".join(_part(part) for part in self.path)
        if self.operator == "null":
            return f"{name} is null"
        if self.operator == "in":
            return f"{name} in ({', '.join(map(str, self.values))})"
        return f"{name} {self.operator} {self.values[0]}"


@dataclass(frozen=True)
class Not:
    part: Question

    def __str__(self) -> str:
        return f"not {_nested(self.part)}"


@dataclass(frozen=True)
class And:
    parts: tuple[Question, ...]

    def __str__(self) -> str:
        return " and ".join(map(_nested, self.parts))


@dataclass(frozen=True)
class Or:
    parts: tuple[Question, ...]

    def __str__(self) -> str:
        return " or ".join(map(_nested, self.parts))


Question = Comparison | Not | And | Or


def parse(text: str) -> Question:
    """Return the question in *text*. Raises QueryError."""
    if len(text) > LONGEST:
        raise QueryError(f"A question has at most {LONGEST} characters", LONGEST + 1)
    return _Parser(text).question_alone()


# -- words ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Token:
    kind: str  # word, quoted, sign, end
    text: str
    column: int

    def says(self, *words: str) -> bool:
        return (self.kind == "word" and self.text.lower() in words) or (
            self.kind == "sign" and self.text in words
        )

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f"“{self.text}”"


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' )
      | (?P<number> [+-]? (?:\d+\.?\d*|\.\d+) (?:[eE][+-]?\d+)? (?![\w.:/+-]) )
      | (?P<word> [\w+\-/:@%*]+ )
      | (?P<sign> == | != | <= | >= | !~ | [=<>~(),.] )
    )""",
    re.VERBOSE | re.DOTALL,
)


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            if text[start] in "\"'":
                raise QueryError("This quote is never closed", start + 1)
            raise QueryError(f"“{text[start]}” means nothing here", start + 1)
        kind = match.lastgroup or ""
        word, column = match[kind], match.start(kind) + 1
        if kind == "quoted":
            word = re.sub(r"\\(.)", r"\1", word[1:-1], flags=re.DOTALL)
        yield _Token("word" if kind == "number" else kind, word, column)
        at = match.end()
    yield _Token("end", "", len(text.rstrip()) + 1)


def _quote(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _part(name: str) -> str:
    is_plain = re.fullmatch(r"[^\W\d][\w+\-/:@%*]*", name) and name.lower() not in _KEYWORDS
    return name if is_plain else _quote(name)


def _nested(part: Question) -> str:
    return f"({part})" if isinstance(part, And | Or) else str(part)


# -- grammar -------------------------------------------------------------------------------------


class _Parser:
    """A recursive descent parser with one method per rule; ``depth`` counts the nesting."""

    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        self.at = 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.next
        self.at += token.kind != "end"
        return token

    def skip(self, *words: str) -> bool:
        if self.next.says(*words):
            self.at += 1
            return True
        return False

    def expect(self, word: str) -> None:
        if not self.skip(word):
            raise QueryError(f"Expected “{word}”, not {self.next}", self.next.column)

    def question_alone(self) -> Question:
        question = self.question(0)
        if self.next.kind != "end":
            raise QueryError(f"Expected “and” or “or”, not {self.next}", self.next.column)
        return question

    def question(self, depth: int) -> Question:
        parts = [self.conjunction(depth)]
        while self.skip("or"):
            parts.append(self.conjunction(depth))
        return Or(tuple(parts)) if len(parts) > 1 else parts[0]

    def conjunction(self, depth: int) -> Question:
        parts = [self.negation(depth)]
        while self.skip("and"):
            parts.append(self.negation(depth))
        return And(tuple(parts)) if len(parts) > 1 else parts[0]

    def negation(self, depth: int) -> Question:
        if depth > DEEPEST:
            raise QueryError("This is nested too deeply", self.next.column)
        if self.skip("not"):
            return Not(self.negation(depth + 1))
        if self.skip("("):
            question = self.question(depth + 1)
            self.expect(")")
            return question
        return self.comparison()

    def comparison(self) -> Question:
        column = self.next.column
        path = self.path()
        if self.skip("is"):
            negated = self.skip("not")
            self.expect("null")
            null = Comparison(path, "null", (), column)
            return Not(null) if negated else null
        negated = self.skip("not")
        if negated or self.next.says("in"):
            self.expect("in")
            among = Comparison(path, "in", self.values(), column)
            return Not(among) if negated else among
        if not self.next.says(*OPERATORS):
            message = f"Expected a comparison such as = or ~ after the field, not {self.next}"
            raise QueryError(message, self.next.column)
        operator = {"==": "="}.get(self.next.text, self.next.text)
        self.take()
        value = (self.value(),)
        if operator == "!~":
            return Not(Comparison(path, "~", value, column))
        return Comparison(path, operator, value, column)

    def path(self) -> tuple[str, ...]:
        parts = [self.part()]
        while self.skip("."):
            parts.append(self.part())
        return tuple(parts)

    def part(self) -> str:
        token = self.take()
        if token.kind not in ("word", "quoted") or token.says(*_KEYWORDS):
            raise QueryError(f"Expected the name of a field, not {token}", token.column)
        return token.text

    def values(self) -> tuple[Value, ...]:
        self.expect("(")
        values = [self.value()]
        while self.skip(","):
            values.append(self.value())
        self.expect(")")
        return tuple(values)

    def value(self) -> Value:
        token = self.take()
        if token.kind not in ("word", "quoted") or token.says(*_KEYWORDS):
            raise QueryError(f"Expected a value, not {token}", token.column)
        return Value(token.text, token.kind == "quoted", token.column)
