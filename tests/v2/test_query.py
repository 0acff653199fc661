"""The grammar of questions: what is printed parses to the same, and nothing else ever happens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.finding.query import And, Comparison, Not, Or, QueryError, Value, parse

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.one_of(
    st.sampled_from(["status", "metrics", "and", "a b", "val/loss", "准确率", "2x"]), TEXT
)
VALUES = st.one_of(
    TEXT.map(lambda text: Value(text, True)),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: Value(repr(number))),
    st.integers().map(lambda number: Value(str(number))),
    st.sampled_from([Value("finished"), Value("2026-01-31"), Value("90s"), Value("a/b-c:d")]),
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(tuple)
COMPARISONS = st.one_of(
    st.builds(
        lambda path, operator, value: Comparison(path, operator, (value,)),
        PATHS,
        st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "~"]),
        VALUES,
    ),
    st.builds(
        lambda path, values: Comparison(path, "in", tuple(values)),
        PATHS,
        st.lists(VALUES, min_size=1, max_size=3),
    ),
    PATHS.map(lambda path: Comparison(path, "null")),
)
QUESTIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: Or(tuple(parts))),
    ),
    max_leaves=8,
)


@given(QUESTIONS)
def test_a_question_written_down_is_read_back(question):
    assert parse(str(question)) == question


@given(st.text(max_size=60))
def test_any_text_is_a_question_or_says_where_it_is_none(text):
    try:
        parse(text)
    except QueryError as error:
        assert 1 <= error.column <= len(text) + 1


WORDS = ["(", ")", "not", "and", "or", "a", "=", "1", ".", ",", "in", "is", "null", "~", "'x'"]


@given(st.lists(st.sampled_from(WORDS), max_size=15))
def test_any_words_are_a_question_or_say_where_they_are_none(words):
    text = " ".join(words)
    try:
        parse(text)
    except QueryError as error:
        assert 1 <= error.column <= len(text) + 1


@pytest.mark.parametrize("text", ["(" * 5000, "not " * 900 + "a = 1", "a = " + "1" * 5000])
def test_what_is_too_deep_or_too_long_is_refused(text):
    with pytest.raises(QueryError):
        parse(text)


def test_and_binds_closer_than_or():
    a, b, c = (Comparison((name,), "=", (Value("1"),)) for name in "abc")
    assert parse("a=1 or b=1 and c=1") == Or((a, And((b, c))))
    assert parse("(a=1 or b=1) and c=1") == And((Or((a, b)), c))
    assert parse("NOT a=1 AND b=1") == And((Not(a), b))
