"""Run by an environment with MLflow: fill its database with runs, then serve it.

    python mlflow_runs.py DATABASE RUNS PORT

The rows go in by SQLAlchemy at once, as logging them one by one would take an hour.
"""

import sys
import uuid

from mlflow.store.tracking.dbmodels import models
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import insert
from sqlalchemy.orm import Session

database, count, port = sys.argv[1], int(sys.argv[2]), sys.argv[3]
address = f"sqlite:///{database}"
store = SqlAlchemyStore(address, "/tmp/mlflow-artifacts")
with Session(store.engine) as session:
    if not session.query(models.SqlRun).count():
        for first in range(0, count, 5000):
            runs, metrics, tags = [], [], []
            for number in range(first, min(first + 5000, count)):
                run = uuid.uuid4().hex
                begun = 1_700_000_000_000 + number * 1000
                runs.append(
                    {
                        "run_uuid": run,
                        "name": f"exp-{number % 7}",
                        "experiment_id": 0,
                        "status": "FINISHED",
                        "start_time": begun,
                        "end_time": begun + 10_000,
                        "lifecycle_stage": "active",
                        "artifact_uri": f"/tmp/mlflow-artifacts/{run}",
                        "source_type": "LOCAL",
                        "user_id": "somebody",
                    }
                )
                for key in ("loss", "accuracy", "lr"):
                    value = number % 97 / 97
                    metrics.append(
                        {"run_uuid": run, "key": key, "value": value, "timestamp": begun}
                        | {"step": 10, "is_nan": False}
                    )
                tags.append({"run_uuid": run, "key": "mlflow.runName", "value": "exp"})
            session.execute(insert(models.SqlRun), runs)
            session.execute(insert(models.SqlLatestMetric), metrics)
            session.execute(insert(models.SqlTag), tags)
        session.commit()

from mlflow.cli import cli  # noqa: E402

stores = ("--backend-store-uri", address, "--default-artifact-root", "/tmp/mlflow-artifacts")
cli(["server", *stores, "--host", "127.0.0.1", "--port", port, "--workers", "1"])
