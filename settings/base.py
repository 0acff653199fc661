"""Settings that every deployment shares; ``local`` and ``team`` contain the differences."""

from __future__ import annotations

from pathlib import Path

from django.utils.translation import gettext_lazy as _

from runicorn import __version__

from .env import env_bool, env_int, env_list, env_str

BASE_DIR = Path(__file__).resolve().parent.parent
DEBUG = False
VERSION = __version__

ROOT_URLCONF = "runicorn_site.urls"
ASGI_APPLICATION = "runicorn_site.asgi.application"
APPEND_SLASH = False  # the v0.4 API answers 404 to a trailing slash
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "daphne",
    "core",  # before the admin: its base template is ours
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
    "runs",
    "metrics",
    "artifacts",
    "remote",
    "operation",
    "web",
    "runicorn_site",  # last: it connects the others
]

MIDDLEWARE = [
    "core.http.origin_policy.Cors",  # first, so that pages can read refusals, too
    "core.http.rate_limits.rate_limit_headers",
    "core.http.compression.compression",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",  # refuses a foreign Host
    "core.http.origin_policy.refuse_cross_site",
    "django.middleware.csrf.CsrfViewMiddleware",
    "core.http.rate_limits.refuse_guessing",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "core.http.local_user.LocalUserMiddleware",
    "core.http.rate_limits.rate_limits",
    "core.http.errors.no_head",
    "core.http.errors.no_nul",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "core.http.origin_policy.content_security_policy",
    "core.http.errors.TranslateErrors",
    "runicorn_site.compat.v05.for_version_0_5",
]

DATABASE_ROUTERS = ["core.databases.Router"]

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
    "DEFAULT_RENDERER_CLASSES": ["core.http.rest.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["core.http.rest.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "core.http.rest.FirstOfEach",
    "DEFAULT_METADATA_CLASS": None,  # OPTIONS is for CORS only
    "DEFAULT_AUTHENTICATION_CLASSES": ["core.http.local_user.DjangoUser"],
    # Each view names its own; one that forgot is closed.
    "DEFAULT_PERMISSION_CLASSES": ["core.http.permissions.MayAdminister"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "core.http.errors.exception_handler",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Runicorn Viewer",
    "DESCRIPTION": """\
Local experiment tracking and visualization platform

Log lines are pushed over a WebSocket, which this format cannot describe:
`GET /api/runs/{run_id}/logs/ws` sends the lines of the run's log as text frames: the last 10,000
that are there, then each new one as it is written. A client may hold 10 of them open; the
handshake of a further one is answered 429.""",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/",
    "AUTHENTICATION_WHITELIST": [],
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "POSTPROCESSING_HOOKS": ["core.http.schema.add_error_responses"],
}

# -- Access -----------------------------------------------------------------------------------

RUNICORN_LOCAL_USER = False
"""Whether a request from this machine acts as a superuser without logging in."""

RUNICORN_TRUSTED_PROXIES = env_list("RUNICORN_TRUSTED_PROXIES")
"""Addresses or networks (``10.0.0.0/8``) whose ``X-Forwarded-For`` is believed."""

RUNICORN_RATE_LIMIT_STORAGE_URI = env_str("RUNICORN_RATE_LIMIT_STORAGE_URI", "bounded-memory://")
"""The store of request counts; ``redis://…`` if there is more than one server process."""

CORS_ALLOWED_ORIGINS = env_list("RUNICORN_CORS_ORIGINS")
"""Other sites whose pages may use the API; ``*`` allows all of them."""

CORS_ALLOW_ALL_ORIGINS = "*" in CORS_ALLOWED_ORIGINS
CORS_ALLOWED_ORIGINS = [origin for origin in CORS_ALLOWED_ORIGINS if origin != "*"]
CORS_ALLOW_CREDENTIALS = not CORS_ALLOW_ALL_ORIGINS
CORS_ALLOW_METHODS = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]
CORS_PREFLIGHT_MAX_AGE = 600

# Browsers share cookies between all ports of a host: other sites on this machine use the defaults.
SESSION_COOKIE_NAME = "runicorn_session"
CSRF_COOKIE_NAME = "runicorn_csrf"

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

RUNICORN_WORKER = False
"""Whether a worker process of its own (``manage.py worker``) holds what all processes share."""

RUNICORN_ROOT_CAN_MOVE = False
"""Whether ``POST /api/config/user_root_dir`` moves the server to another storage root."""

RUNICORN_STATUS_CHECK_SECONDS = 10
"""The interval at which runs are checked for processes that have vanished."""

RUNICORN_WATCH_FORCE_POLLING = env_bool("RUNICORN_WATCH_FORCE_POLLING", False)
"""Poll the storage root even where the file system could announce changes."""

RUNICORN_IMPORT_MAX_BYTES = env_int("RUNICORN_IMPORT_MAX_BYTES", 10 * 2**30)
"""The size of the largest archive that is accepted."""

RUNICORN_IMPORT_MAX_UNPACKED_BYTES = env_int("RUNICORN_IMPORT_MAX_UNPACKED_BYTES", 100 * 2**30)
"""The largest size that one archive may unpack to."""

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "runicorn": {"level": env_str("RUNICORN_LOG_LEVEL", "INFO")},
        # Errors below 500 are the client's, and any client can cause as many as it likes.
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
    },
}
