"""Of a version that came from a host, only the documents may be here."""

from importlib import import_module

from django.db import migrations, models

never_changes = import_module("artifacts.migrations.0002_versions_never_change")


def look_again(apps, schema_editor):
    """The index reads every version once more."""
    for name in ("Version", "Artifact"):
        apps.get_model("artifacts", name).objects.update(mark="")


class Migration(migrations.Migration):
    dependencies = [("artifacts", "0002_versions_never_change")]
    operations = [
        # SQLite's table is rebuilt, and its triggers are lost with it.
        migrations.RunPython(never_changes.unguard, never_changes.guard),
        migrations.AddField(
            "version",
            "has_files",
            models.BooleanField(
                default=True,
                help_text="Of a version that came from a host, only the documents may be here.",
            ),
        ),
        migrations.RunPython(look_again, migrations.RunPython.noop),
        migrations.RunPython(never_changes.guard, never_changes.unguard),
    ]
