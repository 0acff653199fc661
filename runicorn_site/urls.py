from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import (
    SpectacularAPIView,
    SpectacularRedocView,
    SpectacularSwaggerSplitView,
)

from . import artifact_pages, pages, remote_pages
from .health import Health
from .rest import JSONRenderer

urlpatterns = [
    path("api/health", Health.as_view(), name="health"),
    path("api/", include("runs.urls")),
    path("api/", include("artifacts.urls")),
    path("api/v2/", include("runs.v2.urls")),
    path("api/", include("remote.urls")),
    path("", pages.run_list, name="home"),
    path("live", pages.run_list_fragment, name="home-live"),
    path("runs/<str:run_id>", pages.run_page, name="run"),
    path("runs/<str:run_id>/live", pages.run_fragment, name="run-live"),
    path("images/<int:image_id>", pages.run_image, name="run-image"),
    path("recycle-bin", pages.recycle_bin, name="recycle-bin"),
    path("recycle-bin/add", pages.soft_delete, name="soft-delete"),
    path("recycle-bin/restore", pages.restore, name="restore"),
    path("recycle-bin/purge", pages.purge, name="purge"),
    path("remote", remote_pages.remote, name="remote"),
    path("remote/live", remote_pages.remote_fragment, name="remote-live"),
    path("remote/connect", remote_pages.connect, name="remote-page-connect"),
    path("remote/trust", remote_pages.trust, name="remote-page-trust"),
    *(
        path(f"remote/{verb}", remote_pages.change, {"verb": verb}, name=f"remote-page-{verb}")
        for verb in remote_pages.CHANGES
    ),
    path("artifacts", artifact_pages.artifact_list, name="artifact-list-page"),
    path("artifacts/<str:kind>/<str:name>", artifact_pages.artifact, name="artifact-page"),
    path(
        "artifacts/<str:kind>/<str:name>/compare",
        artifact_pages.comparison,
        name="artifact-compare-page",
    ),
    path(
        "artifacts/<str:kind>/<str:name>/v<int:number>",
        artifact_pages.version,
        name="artifact-version-page",
    ),
    path("favicon.ico", pages.favicon),
    path("api/", include("runicorn_site.api_urls")),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path(
        "openapi.json", SpectacularAPIView.as_view(renderer_classes=[JSONRenderer]), name="schema"
    ),
    path("docs", SpectacularSwaggerSplitView.as_view(), name="docs"),
    path("redoc", SpectacularRedocView.as_view(template_name="redoc.html"), name="redoc"),
]

handler400 = "runicorn_site.errors.bad_request"
handler403 = "runicorn_site.errors.permission_denied"
handler404 = "runicorn_site.errors.page_not_found"
handler500 = "runicorn_site.errors.server_error"
