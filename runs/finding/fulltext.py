"""Looking for words in runs, by trigrams, with the same meaning in both databases.

``Run.search_text`` holds what is looked through, folded so that case does not matter. SQLite
keeps an FTS5 table of it by triggers, PostgreSQL a GIN index. Both are made, if they are not
there, after every migration: what remakes a table in SQLite takes its triggers along.

A word of two characters, as most Chinese ones are, is looked for by the trigrams that begin with
it; the text ends with a line break, so that its last word begins one, too. A single character, and
a word that most runs contain, are looked for in the text itself, which an index has as well.
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
"""From this many runs on, reading their text is faster than looking each of them up."""

FEW = 500
"""Up to this many, looking them up is always fast."""

MOST_TRIGRAMS = 300
"""A word of two characters that begins more of them is looked for in the text itself."""

NOWHERE = "\U0010ffff"
"""The last character there is, which no text has: it means nothing, by definition."""

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
    """Return what *run* is found by: its id, names, project, notes and *tags*, each ended by a line
    break. Who changes one of them sets ``search_text`` (``annotation.describe``)."""
    project = run.project.name if run.project else ""
    texts = [run.run_id, run.name or "", project, run.notes, *tags]
    if run.display_name:
        texts.append(run.display_name)
    return fold("".join(f"{text}\n" for text in texts))


def fold(text: str) -> str:
    return text.casefold()


def words(text: str) -> list[str]:
    """The words of a search, all of which have to be there; ``"in quotes"`` is one."""
    return [
        fold(quoted or word)
        for quoted, word in re.findall(r'"([^"]+)"|(\S+)', text)
        if quoted or word
    ]


def containing(text: str, using: str) -> models.Q:
    """The runs in whose text every word of *text* stands somewhere."""
    query, others = _divided(text, using)
    if query and _are_few(_count(query, using), using):
        return models.Q(pk__in=RawSQL(_MATCHES, [query])) & _reading(others)
    return reading(text)


def _are_few(count: int, using: str) -> bool:
    """Whether to look up so many runs, rather than to read through the text of all in their order.

    A page among most of a few thousand runs is soon filled by reading, and needs no sorting.
    """
    if not FEW <= count < MANY:
        return count < FEW
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT max(id) FROM runs_run")  # about how many there are, at once
        return count * 3 < cursor.fetchone()[0]


def reading(text: str) -> models.Q:
    """The same by a look at each text: for few runs."""
    return _reading(words(text))


def _reading(words: list[str]) -> models.Q:
    condition = models.Q()
    for word in words:
        condition &= models.Q(search_text__contains=word)
    return condition


def count(text: str, using: str) -> int | None:
    """How many runs, deleted ones too, contain every word; None if no index knows."""
    query, others = _divided(text, using)
    return _count(query, using) if query and not others else None


def _divided(text: str, using: str) -> tuple[str, list[str]]:
    """What is asked of the index of trigrams, and the words that it does not know about."""
    if connections[using].vendor != "sqlite":
        return "", words(text)
    asked, others = [], []
    for word in words(text):
        if len(word) > 2:
            asked.append(_phrase(word))
        elif len(word) == 2 and len(trigrams := _beginning_with(word, using)) <= MOST_TRIGRAMS:
            asked.append(f"({' OR '.join(map(_phrase, trigrams or [word + NOWHERE]))})")
        else:
            others.append(word)
    return " AND ".join(asked), others


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
    def ask() -> int:
        with connections[using].cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {_TABLE} WHERE {_TABLE} MATCH %s", [query])
            return cursor.fetchone()[0]

    return conditional.memoize(("text", query), ask)


def prepare(*, using: str, **_: Any) -> None:
    """After a migration: see to it that there is an index of the text."""
    connection = connections[using]
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        if "runs_run" not in tables or not _has_text(cursor, connection):
            return  # migrated back to before there was any
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
