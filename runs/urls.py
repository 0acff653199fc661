from django.urls import path

from . import views

urlpatterns = [
    path("runs", views.RunList.as_view(), name="run-list"),
    path("runs/soft-delete", views.SoftDelete.as_view(), name="run-soft-delete"),
    path("runs/<str:run_id>", views.RunRetrieve.as_view(), name="run-detail"),
    path("runs/<str:run_id>/metrics", views.Metrics.as_view(), name="run-metrics"),
    path("runs/<str:run_id>/metrics_step", views.MetricsByStep.as_view(), name="run-metrics-step"),
    path("runs/<str:run_id>/progress", views.Progress.as_view(), name="run-progress"),
    path("recycle-bin", views.RecycleBin.as_view(), name="recycle-bin"),
    path("recycle-bin/restore", views.Restore.as_view(), name="recycle-bin-restore"),
    path("recycle-bin/empty", views.EmptyRecycleBin.as_view(), name="recycle-bin-empty"),
    path("status/check", views.StatusCheck.as_view(), name="status-check"),
]
