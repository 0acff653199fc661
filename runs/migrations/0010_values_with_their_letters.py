import json

from django.db import migrations


def unescape(apps, schema_editor):
    """What later takings-in write at once (``runs.models.as_json``)."""
    for name in ("Param", "SummaryValue"):
        leaves = apps.get_model("runs", name).objects.using(schema_editor.connection.alias)
        for leaf in leaves.filter(value__contains="\\u").iterator():
            text = json.dumps(json.loads(leaf.value), ensure_ascii=False)
            if not any("\ud800" <= character <= "\udfff" for character in text):
                leaves.filter(pk=leaf.pk).update(value=text)


class Migration(migrations.Migration):
    dependencies = [("runs", "0009_search_text_ends_with_a_line_break")]

    operations = [migrations.RunPython(unescape, migrations.RunPython.noop, elidable=True)]
