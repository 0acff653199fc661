from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("runs", "0008_runs_by_tag_and_by_project")]

    operations = [
        migrations.RunSQL(
            "UPDATE runs_run SET search_text = search_text || '\n'",
            migrations.RunSQL.noop,
            elidable=True,
        )
    ]
