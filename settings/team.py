"""A server for teams: PostgreSQL, Redis, any number of processes behind a proxy.

The environment configures it: see ``deploy/runicorn.env`` and ``docs/deployment.md``.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from .base import *
from .env import env_bool, env_list, env_str
from .postgresql import postgresql

if not env_bool("RUNICORN_ALLOW_REMOTE", False):
    raise ImproperlyConfigured(
        "Nobody who reaches the API is asked for a password. Let the proxy ask for one, or be "
        "sure of everybody on the network; then set RUNICORN_ALLOW_REMOTE=1."
    )

SECRET_KEY = env_str("RUNICORN_SECRET_KEY")
RUNICORN_STORAGE_ROOT = Path(env_str("RUNICORN_DIR"))

# -- Behind the proxy --------------------------------------------------------------------------
# It passes on the Host and the whole path, sub-path included, and adds X-Forwarded-For and -Proto.

_public = urlsplit(env_str("RUNICORN_PUBLIC_URL"))
if _public.scheme not in {"http", "https"} or not _public.hostname:
    raise ImproperlyConfigured(
        "RUNICORN_PUBLIC_URL is what people type, such as https://ml.example.org/runicorn/."
    )
FORCE_SCRIPT_NAME = _public.path.rstrip("/") or None
STATIC_URL = f"{FORCE_SCRIPT_NAME or ''}/static/"
ALLOWED_HOSTS = [_public.hostname, *env_list("RUNICORN_ALLOWED_HOSTS")]
CSRF_TRUSTED_ORIGINS = [f"{_public.scheme}://{_public.netloc}"]
RUNICORN_TRUSTED_PROXIES = env_list("RUNICORN_TRUSTED_PROXIES", ("127.0.0.1", "::1"))

SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = LANGUAGE_COOKIE_PATH = f"{FORCE_SCRIPT_NAME or ''}/"
if _public.scheme == "https":
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True

# The proxy decides whether to redirect plain HTTP and how long browsers remember that (HSTS).
SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008"]
if _public.scheme == "http":
    SILENCED_SYSTEM_CHECKS += ["security.W012", "security.W016"]  # cookies without Secure

# -- What the processes share ------------------------------------------------------------------

DATABASES = {"default": postgresql(env_str("RUNICORN_DATABASE_URL"))}
DATABASES["default"]["OPTIONS"]["pool"] = True  # connections are shared, not kept by threads

_redis = env_str("RUNICORN_REDIS_URL")
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [_redis], "prefix": "runicorn"},
    }
}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": _redis,
        "KEY_PREFIX": "runicorn",
    }
}
RUNICORN_RATE_LIMIT_STORAGE_URI = _redis
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
RUNICORN_WORKER = True
