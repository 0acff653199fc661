from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RemoteConfig(AppConfig):
    name = "remote"
    verbose_name = _("Remote")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from artifacts import streams
        from runs import folders

        from . import sync

        if sync.bring not in folders.before_reading:
            folders.before_reading.append(sync.bring)
        if sync.bring_files not in streams.before_reading:
            streams.before_reading.append(sync.bring_files)
