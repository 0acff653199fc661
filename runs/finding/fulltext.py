"""Search words in runs, by trigrams, with the same meaning in both databases.

``Run.search_text`` has the searched text, folded so that case does not matter. SQLite keeps an
FTS5 table of it by triggers, PostgreSQL a GIN index. Both are created after every migration if
they are missing: rebuilding a table in SQLite removes its triggers.

A word of two characters, like most Chinese words, is found by the trigrams that begin with it; the
text ends with a line break, so that its last word begins a trigram, too. Single characters and
words that most runs contain are searched in the text itself, which is also in an index.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any

from django.db import DatabaseError, connections, models, transaction
from django.db.models.expressions import RawSQL

from core.http import conditional

logger = logging.getLogger("runicorn.runs")

MANY = 10_000
"""From this many matches on, reading the text of all runs is faster than looking up each match."""

FEW = 500
"""Up to this many matches, looking them up is always fast."""

MOST_TRIGRAMS = 300
"""A word of two characters that begins more trigrams is searched in the text itself."""

NOWHERE = "\U0010ffff"
"""The last code point, a noncharacter that no text has."""

_TABLE = "runs_text"
_TRIGRAMS = f"{_TABLE}_trigrams"
_MATCHES = f"SELECT rowid FROM {_TABLE} WHERE {_TABLE} MATCH %s"
_SQLITE = (
    f"CREATE VIRTUAL TABLE {_TABLE} USING fts5(search_text, content='runs_run', "
    "content_rowid='id', tokenize='trigram case_sensitive 1', columnsize=0)",
    f"INSERT INTO {_TABLE}({_TABLE}) VALUES('rebuild')",
)
_REMOVE = (
    f"INSERT INTO {_TABLE}({_TABLE}, rowid, search_text) VALUES('delete', old.id, old.search_text);"
)
_ADD = f"INSERT INTO {_TABLE}(rowid, search_text) VALUES(new.id, new.search_text);"
_SQLITE_ALWAYS = (
    f"CREATE TRIGGER IF NOT EXISTS runs_text_insert AFTER INSERT ON runs_run BEGIN {_ADD} END",
    f"CREATE TRIGGER IF NOT EXISTS runs_text_delete AFTER DELETE ON runs_run BEGIN {_REMOVE} END",
    "CREATE TRIGGER IF NOT EXISTS runs_text_update AFTER UPDATE OF search_text ON runs_run "
    f"WHEN old.search_text IS NOT new.search_text BEGIN {_REMOVE} {_ADD} END",
    f"CREATE VIRTUAL TABLE IF NOT EXISTS {_TRIGRAMS} USING fts5vocab({_TABLE}, 'row')",
    "DROP INDEX IF EXISTS runs_text_plain",
    # In the order of the list, so that a page of runs with a short or frequent word reads no more.
    "CREATE INDEX IF NOT EXISTS runs_text_in_order"
    " ON runs_run(created_time, run_id, id, deleted_at, search_text)",
)
_POSTGRESQL = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    "CREATE INDEX IF NOT EXISTS runs_text ON runs_run USING gin (search_text gin_trgm_ops)",
)


def text_of(run: Any, tags: Iterable[str]) -> str:
    """Return the text that finds *run*: its id, names, project, notes and *tags*, a line each.

    Code that changes one of them also sets ``search_text`` (see ``annotation.describe``).
    """
    project = run.project.name if run.project else ""
    texts = [run.run_id, run.name or "", project, run.notes, *tags]
    if run.display_name:
        texts.append(run.display_name)
    return fold("".join(f"{text}\n" for text in texts))


def fold(text: str) -> str:
    return text.casefold()


def words(text: str) -> list[str]:
    """Return the words of a search, all of which must match; ``"a quoted text"`` is one word."""
    return [
        fold(quoted or word)
        for quoted, word in re.findall(r'"([^"]+)"|(\S+)', text)
        if quoted or word
    ]


def containing(text: str, using: str) -> models.Q:
    """Return the condition that a run's text contains every word of *text*."""
    query, unindexed = _split_query(text, using)
    if query and _are_few(_count(query, using), using):
        return models.Q(pk__in=RawSQL(_MATCHES, [query])) & _contains_all(unindexed)
    return reading(text)


def _are_few(count: int, using: str) -> bool:
    """Return whether to look up so many matches, instead of reading the text of all runs in order.

    If most of a few thousand runs match, reading soon fills a page, and needs no sorting.
    """
    if not FEW <= count < MANY:
        return count < FEW
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT max(id) FROM runs_run")  # about the number of runs, found at once
        return count * 3 < cursor.fetchone()[0]


def reading(text: str) -> models.Q:
    """Return the same condition, to be checked by reading each text: for few runs."""
    return _contains_all(words(text))


def _contains_all(words: list[str]) -> models.Q:
    condition = models.Q()
    for word in words:
        condition &= models.Q(search_text__contains=word)
    return condition


def count(text: str, using: str) -> int | None:
    """Return how many runs, including deleted ones, contain every word; None without an index."""
    query, unindexed = _split_query(text, using)
    return _count(query, using) if query and not unindexed else None


def _split_query(text: str, using: str) -> tuple[str, list[str]]:
    """Return the query for the index of trigrams, and the words that it cannot find."""
    if connections[using].vendor != "sqlite":
        return "", words(text)
    indexed, unindexed = [], []
    for word in words(text):
        if len(word) > 2:
            indexed.append(_phrase(word))
        elif len(word) == 2 and len(trigrams := _beginning_with(word, using)) <= MOST_TRIGRAMS:
            indexed.append(f"({' OR '.join(map(_phrase, trigrams or [word + NOWHERE]))})")
        else:
            unindexed.append(word)
    return " AND ".join(indexed), unindexed


def _phrase(word: str) -> str:
    doubled = word.replace('"', '""')
    return f'"{doubled}"'


def _beginning_with(word: str, using: str) -> list[str]:
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"SELECT term FROM {_TRIGRAMS} WHERE term >= %s AND term < %s LIMIT %s",
            [word, word + NOWHERE, MOST_TRIGRAMS + 1],
        )
        return [term for (term,) in cursor.fetchall()]


def _count(query: str, using: str) -> int:
    def count_matches() -> int:
        with connections[using].cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {_TABLE} WHERE {_TABLE} MATCH %s", [query])
            return cursor.fetchone()[0]

    return conditional.memoize(("text", query), count_matches)


def prepare(*, using: str, **_: Any) -> None:
    """Create the index of the text after a migration, if it is missing."""
    connection = connections[using]
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        if "runs_run" not in tables or not _has_text(cursor, connection):
            return  # migrated back to a version without it
        if connection.vendor == "sqlite":
            for statement in (*(() if _TABLE in tables else _SQLITE), *_SQLITE_ALWAYS):
                cursor.execute(statement)
    if connection.vendor == "postgresql":
        try:
            with transaction.atomic(using), connection.cursor() as cursor:
                for statement in _POSTGRESQL:
                    cursor.execute(statement)
        except DatabaseError as error:
            logger.warning(
                "Searching will read the text of all runs, because PostgreSQL's extension pg_trgm "
                "cannot be had (%s). A superuser may say: CREATE EXTENSION pg_trgm.",
                str(error).strip(),
            )


def _has_text(cursor: Any, connection: Any) -> bool:
    columns = connection.introspection.get_table_description(cursor, "runs_run")
    return any(column.name == "search_text" for column in columns)
