from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "runicorn_site"

    def ready(self) -> None:
        from . import checks, wiring  # noqa: F401  (registers the checks)

        wiring.connect()
