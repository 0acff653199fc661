from django.urls import path

from . import artifact_pages, remote_pages, run_pages

urlpatterns = [
    path("", run_pages.run_list, name="home"),
    path("live", run_pages.run_list_fragment, name="home-live"),
    path("runs/<str:run_id>", run_pages.run_page, name="run"),
    path("runs/<str:run_id>/log", run_pages.run_log, name="run-log"),
    path("runs/<str:run_id>/live", run_pages.run_fragment, name="run-live"),
    path("images/<int:image_id>", run_pages.run_image, name="run-image"),
    path("recycle-bin", run_pages.recycle_bin, name="recycle-bin"),
    path("recycle-bin/add", run_pages.soft_delete, name="soft-delete"),
    path("recycle-bin/restore", run_pages.restore, name="restore"),
    path("recycle-bin/purge", run_pages.purge, name="purge"),
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
    path("favicon.ico", run_pages.favicon),
]
