from django.urls import path

from . import views

VERSION = "artifacts/<str:name>/v<str:version>"

urlpatterns = [
    path("runs/<str:run_id>/artifacts", views.RunArtifacts.as_view(), name="run-artifacts"),
    path("artifacts", views.ArtifactList.as_view(), name="artifact-list"),
    path("artifacts/stats", views.Stats.as_view(), name="artifact-stats"),
    path("artifacts/gc", views.CollectGarbage.as_view(), name="artifact-gc"),
    path("artifacts/<str:name>/versions", views.VersionList.as_view(), name="artifact-versions"),
    path("artifacts/<str:name>/compare", views.Compare.as_view(), name="artifact-compare"),
    path("artifacts/<str:name>/training-metrics", views.TrainingMetrics.as_view()),
    path("artifacts/<str:name>/performance-history", views.PerformanceHistory.as_view()),
    path("artifacts/<str:name>/evaluations", views.Evaluations.as_view()),
    path("artifacts/<str:name>/aliases/<str:alias>", views.AliasDetail.as_view()),
    path(VERSION, views.VersionRetrieve.as_view(), name="artifact-version"),
    path(f"{VERSION}/files", views.VersionFiles.as_view(), name="artifact-files"),
    path(f"{VERSION}/files/<path:path>", views.FileContent.as_view(), name="artifact-file"),
    path(f"{VERSION}/archive", views.Archive.as_view(), name="artifact-archive"),
    path(f"{VERSION}/lineage", views.VersionLineage.as_view(), name="artifact-lineage"),
    path(f"{VERSION}/history", views.History.as_view(), name="artifact-history"),
    path(f"{VERSION}/promote", views.Promote.as_view(), name="artifact-promote"),
    path(f"{VERSION}/evaluate", views.Evaluate.as_view(), name="artifact-evaluate"),
    path(f"{VERSION}/restore", views.RestoreVersion.as_view(), name="artifact-restore"),
    path(f"{VERSION}/verify", views.Verify.as_view(), name="artifact-verify"),
    path("artifact-uploads", views.UploadList.as_view(), name="artifact-uploads"),
    path("artifact-uploads/<str:upload_id>", views.UploadDetail.as_view()),
    path("artifact-uploads/<str:upload_id>/commit", views.UploadCommit.as_view()),
    path("artifact-uploads/<str:upload_id>/<str:digest>", views.UploadPart.as_view()),
]
