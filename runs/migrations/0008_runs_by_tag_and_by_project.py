import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0007_order_with_ids")]

    operations = [
        migrations.CreateModel(  # its table is made by runs.tagged
            name="TaggedRun",
            fields=[
                ("key", models.CharField(max_length=255)),
                ("created_time", models.FloatField()),
                ("name", models.CharField(help_text="The run's own id.", max_length=255)),
                (
                    "run",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="runs.run",
                    ),
                ),
            ],
            options={"db_table": "runs_tagged_run", "managed": False},
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                fields=["project", "run_id", "id", "deleted_at"], name="runs_of_project_by_id"
            ),
        ),
    ]
