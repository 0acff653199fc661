from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RunsConfig(AppConfig):
    name = "runs"
    verbose_name = _("Runs")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.db.models.signals import post_migrate

        from . import fulltext, tagged

        post_migrate.connect(fulltext.prepare, sender=self)
        post_migrate.connect(tagged.prepare, sender=self)
