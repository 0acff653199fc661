"""The database itself refuses to change what makes a version what it is.

A later migration that makes Django rebuild these tables on SQLite has to add the triggers again.
"""

from django.db import migrations

WHAT = "what an artifact version contains never changes"
IMMUTABLE = {
    "artifacts_version": [
        "artifact_id",
        "number",
        "manifest_sha256",
        "size_bytes",
        "num_files",
        "num_references",
    ],
    "artifacts_file": ["version_id", "path", "blob_id", "modified_time"],
    "artifacts_blob": ["digest", "size_bytes"],
}


def guard(apps, schema_editor):
    vendor = schema_editor.connection.vendor
    if vendor == "postgresql":
        schema_editor.execute(
            "CREATE OR REPLACE FUNCTION artifacts_refuse_change() RETURNS trigger AS $$ "
            f"BEGIN RAISE EXCEPTION '{WHAT}' USING ERRCODE = 'integrity_constraint_violation'; "
            "END $$ LANGUAGE plpgsql"
        )
    add_triggers(schema_editor, "never_changes", IMMUTABLE)


def add_triggers(schema_editor, name, immutable):
    """A trigger *name* on each table of *immutable* refuses changes of its columns."""
    vendor = schema_editor.connection.vendor
    for table, columns in immutable.items():
        distinct = "IS DISTINCT FROM" if vendor == "postgresql" else "IS NOT"
        changed = " OR ".join(f'OLD."{column}" {distinct} NEW."{column}"' for column in columns)
        if vendor == "postgresql":
            schema_editor.execute(
                f"CREATE TRIGGER {table}_{name} BEFORE UPDATE ON {table} FOR EACH ROW "
                f"WHEN ({changed}) EXECUTE FUNCTION artifacts_refuse_change()"
            )
        elif vendor == "sqlite":
            schema_editor.execute(
                f"CREATE TRIGGER {table}_{name} BEFORE UPDATE ON {table} FOR EACH ROW "
                f"WHEN {changed} BEGIN SELECT RAISE(ABORT, '{WHAT}'); END"
            )


def unguard(apps, schema_editor):
    vendor = schema_editor.connection.vendor
    drop_triggers(schema_editor, "never_changes", IMMUTABLE)
    if vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION IF EXISTS artifacts_refuse_change()")


def drop_triggers(schema_editor, name, immutable):
    for table in immutable:
        on = f" ON {table}" if schema_editor.connection.vendor == "postgresql" else ""
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_{name}{on}")


class Migration(migrations.Migration):
    dependencies = [("artifacts", "0001_initial")]
    operations = [migrations.RunPython(guard, unguard)]
