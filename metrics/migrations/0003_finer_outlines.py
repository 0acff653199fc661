"""Four levels of outlines instead of two. What older ones say is read from the blocks until then."""

from django.db import migrations, models


def forget(apps, schema_editor):
    apps.get_model("metrics", "Outline").objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [("metrics", "0002_timelines_and_outlines")]

    operations = [
        migrations.AddField(
            model_name="timeline",
            name="outlined",
            field=models.BigIntegerField(default=0, help_text="Events that the outlines cover."),
        ),
        migrations.RunPython(forget, migrations.RunPython.noop),
    ]
