from django.urls import path

from . import exports, projects, views

urlpatterns = [
    path("runs", views.RunList.as_view(), name="run-list"),
    path("runs/soft-delete", views.SoftDelete.as_view(), name="run-soft-delete"),
    path("runs/<str:run_id>", views.RunRetrieve.as_view(), name="run-detail"),
    path("runs/<str:run_id>/metrics", views.Metrics.as_view(), name="run-metrics"),
    path("runs/<str:run_id>/metrics_step", views.MetricsByStep.as_view(), name="run-metrics-step"),
    path("runs/<str:run_id>/system", views.SystemMetrics.as_view(), name="run-system"),
    path("runs/<str:run_id>/progress", views.Progress.as_view(), name="run-progress"),
    path("recycle-bin", views.RecycleBin.as_view(), name="recycle-bin"),
    path("recycle-bin/restore", views.Restore.as_view(), name="recycle-bin-restore"),
    path("recycle-bin/empty", views.EmptyRecycleBin.as_view(), name="recycle-bin-empty"),
    path("projects", projects.Projects.as_view(), name="project-list"),
    path(
        "projects/<path:project>/names/<path:name>/runs",
        projects.ExperimentRuns.as_view(),
        name="experiment-runs",
    ),
    path(
        "projects/<path:project>/names",
        projects.ProjectExperiments.as_view(),
        name="project-experiments",
    ),
    path("environment/<str:run_id>", projects.Environment.as_view(), name="run-environment"),
    path("experiments/tag", projects.TagExperiment.as_view(), name="experiment-tag"),
    path("experiments/search", projects.SearchExperiments.as_view(), name="experiment-search"),
    path("experiments/delete", projects.DeleteExperiments.as_view(), name="experiment-delete"),
    path("experiments/cleanup", projects.CleanupExperiments.as_view(), name="experiment-cleanup"),
    path("export", exports.ExportMany.as_view(), name="export"),
    path("export/<str:run_id>/report", exports.ExportReport.as_view(), name="run-report"),
    path("export/<str:run_id>/<str:kind>", exports.ExportRun.as_view(), name="run-export"),
    path("import/archive", exports.ImportArchive.as_view(), name="import-archive"),
    path("status/check", views.StatusCheck.as_view(), name="status-check"),
]
