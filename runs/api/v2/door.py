"""The door of the V2 API."""

from core.http.doors import Door

V2 = Door(
    "v2",
    ("/api/v2/",),
    limits={
        "GET /api/v2/experiments": 100,
        "GET /api/v2/experiments/{id}": 200,
        "GET /api/v2/experiments/{id}/metrics/fast": 100,
        "POST /api/v2/experiments/batch-delete": 10,
    },
)
