from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ArtifactsConfig(AppConfig):
    name = "artifacts"
    verbose_name = _("Artifacts")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from runs import watch as intake

        from . import usage, watch

        usage.listen()
        intake.companions.append(watch.ArtifactIntake)
