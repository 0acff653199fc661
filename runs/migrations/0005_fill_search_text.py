from django.db import migrations


def fill(apps, schema_editor):
    runs = apps.get_model("runs", "Run").objects.using(schema_editor.connection.alias)
    columns = ("pk", "run_id", "name", "project__name", "notes")
    found = [
        ("\n".join(text or "" for text in texts).casefold(), pk)
        for pk, *texts in runs.values_list(*columns).iterator()
    ]
    with schema_editor.connection.cursor() as cursor:
        cursor.executemany("UPDATE runs_run SET search_text = %s WHERE id = %s", found)


class Migration(migrations.Migration):

    dependencies = [
        ('runs', '0004_search_text'),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
    ]
