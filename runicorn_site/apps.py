from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "runicorn_site"

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers them)
