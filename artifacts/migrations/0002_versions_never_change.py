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
        "created_time",
        "created_by_run",
    ],
    "artifacts_file": ["version_id", "path", "blob_id", "modified_time"],
    "artifacts_reference": ["version_id", "uri", "checksum", "size_bytes", "metadata"],
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
    for table, columns in IMMUTABLE.items():
        distinct = "IS DISTINCT FROM" if vendor == "postgresql" else "IS NOT"
        changed = " OR ".join(f'OLD."{column}" {distinct} NEW."{column}"' for column in columns)
        refusal = (
            f"WHEN ({changed}) EXECUTE FUNCTION artifacts_refuse_change()"
            if vendor == "postgresql"
            else f"WHEN {changed} BEGIN SELECT RAISE(ABORT, '{WHAT}'); END"
        )
        schema_editor.execute(
            f"CREATE TRIGGER {table}_never_changes BEFORE UPDATE ON {table} FOR EACH ROW {refusal}"
        )


def unguard(apps, schema_editor):
    vendor = schema_editor.connection.vendor
    for table in IMMUTABLE:
        on = f" ON {table}" if vendor == "postgresql" else ""
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_never_changes{on}")
    if vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION IF EXISTS artifacts_refuse_change()")


class Migration(migrations.Migration):
    dependencies = [("artifacts", "0001_initial")]
    operations = [migrations.RunPython(guard, unguard)]
