from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import (
    SpectacularAPIView,
    SpectacularRedocView,
    SpectacularSwaggerSplitView,
)

from core.http.permissions import Public
from core.http.rest import JSONRenderer

urlpatterns = [
    path("api/", include("runs.api.v1.urls")),
    path("api/", include("artifacts.urls")),
    path("api/v2/", include("runs.api.v2.urls")),
    path("api/", include("remote.api.urls")),
    path("", include("web.urls")),
    path("api/", include("operation.api.urls")),
    path("api/", include("runicorn_site.compat.v06")),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path(
        "openapi.json",
        SpectacularAPIView.as_view(renderer_classes=[JSONRenderer], permission_classes=[Public]),
        name="schema",
    ),
    path("docs", SpectacularSwaggerSplitView.as_view(permission_classes=[Public]), name="docs"),
    path(
        "redoc",
        SpectacularRedocView.as_view(template_name="redoc.html", permission_classes=[Public]),
        name="redoc",
    ),
]

handler400 = "core.http.errors.bad_request"
handler403 = "core.http.errors.permission_denied"
handler404 = "core.http.errors.page_not_found"
handler500 = "core.http.errors.server_error"
