"""Connect the apps: fill the lists and ports through which lower apps call higher ones.

Apps import only apps below them. Where a lower app needs a higher one, it has a list or a port of
its own. All of those are filled here, once, when the apps are loaded.
"""

from __future__ import annotations

from django.apps import apps
from django.contrib.auth.signals import user_login_failed
from django.db import DatabaseError
from django.db.models.signals import post_migrate
from rest_framework.exceptions import APIException

from artifacts import remote_files, usage
from artifacts.watch import ArtifactIndexer
from core.http import doors, errors, rate_limits, trouble
from metrics.exceptions import CorruptBlock
from operation import index_health, storage_root
from remote import on_reading
from remote.compat import storage_status
from remote.sync import ledger
from runs.api.v1.door import V1
from runs.api.v2.door import V2
from runs.finding import fulltext, tagged
from runs.ingest import documents, folder_source, indexer
from web.door import PAGES


def connect() -> None:
    doors.register(PAGES, V1, V2)
    errors.translations[CorruptBlock] = _damaged
    errors.translations[DatabaseError] = _database_error
    index_health.renewing.append(storage_root.renew_index)
    user_login_failed.connect(rate_limits.count_failed_sign_in)

    # Indexes that Django's models cannot describe.
    runs = apps.get_app_config("runs")
    post_migrate.connect(fulltext.prepare, sender=runs)
    post_migrate.connect(tagged.prepare, sender=runs)

    # Ingest: documents whose rows belong to other apps, and files that are fetched before reading.
    documents.document_writers |= usage.document_writers
    indexer.companions.append(ArtifactIndexer)
    folder_source.before_reading.append(on_reading.bring_run)

    # Artifacts whose contents are on another host.
    remote_files.fetchers.append(on_reading.bring_version)
    remote_files.remote_checks.append(ledger.came_from_a_host)
    remote_files.stats_sources.append(storage_status.artifact_statistics)


def _database_error(error: DatabaseError) -> APIException | None:
    return index_health.answer(error) or trouble.of_database(error)


def _damaged(error: CorruptBlock) -> APIException:
    return APIException(f"{error} The run has no folder to read it from again.")
