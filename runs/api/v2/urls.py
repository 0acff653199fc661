from django.urls import path

from . import analytics, metrics, views

urlpatterns = [
    path("experiments", views.ExperimentList.as_view(), name="v2-experiment-list"),
    path("experiments/batch-delete", views.BatchDelete.as_view(), name="v2-batch-delete"),
    path("experiments/<str:run_id>", views.ExperimentDetail.as_view(), name="v2-experiment"),
    path(
        "experiments/<str:run_id>/metrics/fast", views.FastMetrics.as_view(), name="v2-metrics-fast"
    ),
    path("metrics/query", metrics.Query.as_view(), name="v2-metrics-query"),
    path("metrics/statistics", metrics.Statistics.as_view(), name="v2-metrics-statistics"),
    path("metrics/export", metrics.Export.as_view(), name="v2-metrics-export"),
    path("analytics/summary", analytics.Summary.as_view(), name="v2-summary"),
    path("analytics/overview", analytics.Overview.as_view(), name="v2-overview"),
    path("analytics/projects", analytics.Projects.as_view(), name="v2-projects"),
    path("analytics/performance-trends", analytics.Trends.as_view(), name="v2-trends"),
    path("analytics/health", analytics.Health.as_view(), name="v2-health"),
]
