from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "runicorn_site"
