"""Nor do a version's references, and who made it when."""

from importlib import import_module

from django.db import migrations

never_changes = import_module("artifacts.migrations.0002_versions_never_change")

NAME = "keeps_origin"
IMMUTABLE = {
    "artifacts_version": ["created_time", "created_by_run"],
    "artifacts_reference": ["version_id", "uri", "checksum", "size_bytes", "metadata"],
}


def guard(apps, schema_editor):
    never_changes.add_triggers(schema_editor, NAME, IMMUTABLE)


def unguard(apps, schema_editor):
    never_changes.drop_triggers(schema_editor, NAME, IMMUTABLE)


class Migration(migrations.Migration):
    dependencies = [("artifacts", "0003_files_may_be_elsewhere")]
    operations = [migrations.RunPython(guard, unguard)]
