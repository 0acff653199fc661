"""What every deployment shares. ``local`` and ``team`` read as differences from it."""

from __future__ import annotations

from pathlib import Path

from django.utils.translation import gettext_lazy as _

from runicorn import __version__

BASE_DIR = Path(__file__).resolve().parent.parent
DEBUG = False
VERSION = __version__

ROOT_URLCONF = "runicorn_site.urls"
ASGI_APPLICATION = "runicorn_site.asgi.application"
APPEND_SLASH = False  # the v0.4 API answers 404 to a trailing slash
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "corsheaders",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "runicorn_site",
    "runs",
    "metrics",
    "artifacts",
    "remote",
]

MIDDLEWARE = [
    "runicorn_site.errors.no_head",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# -- API ---------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["runicorn_site.rest.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["runicorn_site.rest.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "runicorn_site.rest.FirstOfEach",
    "DEFAULT_METADATA_CLASS": None,  # OPTIONS is for CORS only
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "runicorn_site.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Runicorn Viewer",
    "DESCRIPTION": "Local experiment tracking and visualization platform",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
}

# -- Languages, static files -------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "runicorn_site" / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

# -- Storage -----------------------------------------------------------------------------------

RUNICORN_STATUS_CHECK_SECONDS = 30
"""How often runs whose process may have vanished are looked at."""

RUNICORN_WATCH_FORCE_POLLING = False
"""Poll the storage root even where the file system could announce changes."""

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"runicorn": {"level": "INFO"}},
}
