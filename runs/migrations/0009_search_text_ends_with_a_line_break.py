from django.db import migrations

# Made anew after the migration, which takes less than to follow each change, and leaves no holes.
INDEX = (
    "DROP TRIGGER IF EXISTS runs_text_insert",
    "DROP TRIGGER IF EXISTS runs_text_delete",
    "DROP TRIGGER IF EXISTS runs_text_update",
    "DROP TABLE IF EXISTS runs_text",
)


def end_lines(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        if schema_editor.connection.vendor == "sqlite":
            for statement in INDEX:
                cursor.execute(statement)
        cursor.execute("UPDATE runs_run SET search_text = search_text || '\n'")


class Migration(migrations.Migration):
    dependencies = [("runs", "0008_runs_by_tag_and_by_project")]

    operations = [migrations.RunPython(end_lines, migrations.RunPython.noop, elidable=True)]
