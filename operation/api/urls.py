from django.urls import path

from . import config, health, telemetry

urlpatterns = [
    path("health", health.Health.as_view(), name="health"),
    path("config", config.Config.as_view(), name="config"),
    path("config/user_root_dir", config.UserRootDir.as_view(), name="user-root-dir"),
    path("config/column-widths", config.ColumnWidths.as_view(), name="column-widths"),
    path("config/dismissed-alerts", config.DismissedAlerts.as_view(), name="dismissed-alerts"),
    path(
        "config/dismissed-alerts/<str:verb>",
        config.ChangeDismissedAlerts.as_view(),
        name="change-dismissed-alerts",
    ),
    path("gpu/telemetry", telemetry.Gpus.as_view(), name="gpu-telemetry"),
    path("system/monitor", telemetry.System.as_view(), name="system-monitor"),
]
