from django.urls import path

from .views import browsing, lifecycle, more, uploads

VERSION = "artifacts/<str:name>/v<str:version>"

urlpatterns = [
    path("runs/<str:run_id>/artifacts", browsing.RunArtifacts.as_view(), name="run-artifacts"),
    path("artifacts", browsing.ArtifactList.as_view(), name="artifact-list"),
    path("artifacts/stats", browsing.Stats.as_view(), name="artifact-stats"),
    path("artifacts/gc", more.CollectGarbage.as_view(), name="artifact-gc"),
    path("artifacts/<str:name>/versions", browsing.VersionList.as_view(), name="artifact-versions"),
    path("artifacts/<str:name>/compare", more.Compare.as_view(), name="artifact-compare"),
    path("artifacts/<str:name>/training-metrics", lifecycle.TrainingMetrics.as_view()),
    path("artifacts/<str:name>/performance-history", lifecycle.PerformanceHistory.as_view()),
    path("artifacts/<str:name>/evaluations", lifecycle.Evaluations.as_view()),
    path("artifacts/<str:name>/aliases/<str:alias>", more.AliasDetail.as_view()),
    path(VERSION, browsing.VersionRetrieve.as_view(), name="artifact-version"),
    path(f"{VERSION}/files", browsing.VersionFiles.as_view(), name="artifact-files"),
    path(f"{VERSION}/files/<path:path>", more.FileContent.as_view(), name="artifact-file"),
    path(f"{VERSION}/archive", more.Archive.as_view(), name="artifact-archive"),
    path(f"{VERSION}/lineage", browsing.VersionLineage.as_view(), name="artifact-lineage"),
    path(f"{VERSION}/history", more.History.as_view(), name="artifact-history"),
    path(f"{VERSION}/promote", lifecycle.Promote.as_view(), name="artifact-promote"),
    path(f"{VERSION}/evaluate", lifecycle.Evaluate.as_view(), name="artifact-evaluate"),
    path(f"{VERSION}/restore", more.RestoreVersion.as_view(), name="artifact-restore"),
    path(f"{VERSION}/verify", more.Verify.as_view(), name="artifact-verify"),
    path("artifact-uploads", uploads.UploadList.as_view(), name="artifact-uploads"),
    path("artifact-uploads/<str:upload_id>", uploads.UploadDetail.as_view()),
    path("artifact-uploads/<str:upload_id>/commit", uploads.UploadCommit.as_view()),
    path("artifact-uploads/<str:upload_id>/pack", uploads.UploadPack.as_view()),
    path("artifact-uploads/<str:upload_id>/<str:digest>/chunks", uploads.UploadChunks.as_view()),
    path("artifact-uploads/<str:upload_id>/<str:digest>", uploads.UploadPart.as_view()),
]
