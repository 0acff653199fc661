"""The door of the v0.4 API, and of everything below ``/api/`` that has no door of its own."""

from core.http.doors import Door

V1 = Door(
    "v1",
    ("/api/",),
    limits={
        "GET /api/runs": 100,
        "POST /api/runs/soft-delete": 20,
        "POST /api/recycle-bin/empty": 5,
        "POST /api/config/user_root_dir": 10,
        "POST /api/config/ssh_connections": 20,
        "DELETE /api/config/ssh_connections/{id}": 20,
        "POST /api/unified/connect": 5,
        "POST /api/ssh/connect": 10,
        "POST /api/remote/connect": 10,
        "POST /api/remote/viewer/start": 10,
        "GET /api/unified/listdir": 30,
        "POST /api/unified/configure_mode": 10,
        # Beyond v0.4: one artifact is many of these.
        "GET /api/artifacts/{id}/v{id}/files/{id}": 6000,
        "PUT /api/artifact-uploads/{id}/{id}": 6000,
        "PUT /api/artifact-uploads/{id}/{id}/chunks": 6000,
        "PUT /api/artifact-uploads/{id}/pack": 6000,
    },
)
