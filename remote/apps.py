from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RemoteConfig(AppConfig):
    name = "remote"
    verbose_name = _("Remote")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from artifacts import elsewhere
        from runs import folders

        from . import claims, storage, sync

        if sync.bring not in folders.before_reading:
            folders.before_reading.append(sync.bring)
        if sync.bring_files not in elsewhere.fetchers:
            elsewhere.fetchers.append(sync.bring_files)
            elsewhere.holders.append(claims.came_from_a_host)
            elsewhere.accounts.append(storage.artifact_statistics)
