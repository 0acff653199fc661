"""Logging a run: ``init``, ``log`` and what belongs to it.

Everything here writes files of the run directory and nothing else: no server is asked, no thread
stands between a call and the disk. Logging never ends a training: what the disk refuses is
reported once, kept in memory and written later. Wrong arguments do raise.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from time import time as clock
from typing import TYPE_CHECKING, Any, Literal, Self

from . import _claim, _encoding, _images, _lifecycle, _sampling, layout
from ._encoding import OPTIONS, dumps, encode, plain
from ._writer import LineWriter, text_line, write

if TYPE_CHECKING:
    from .artifacts import Artifact

if TYPE_CHECKING:
    from .monitoring import AnomalyDetector, MetricMonitor

logger = logging.getLogger("runicorn")

_ENVIRONMENT_TIMEOUT_S = 15
_N, _U = b"nu"
_NO_METRICS = {"global_step", "time", "stage", "step"}

_WRONG_IMAGES = (TypeError, ValueError, KeyError, FileNotFoundError, RuntimeError)

_REMOVED = object()
"""In changes of a document: this member goes."""

_active: Run | None = None


class Config(dict[str, Any]):
    """A run's hyperparameters. What is set here is in the run's ``config.json`` at once.

    Everything that changes a ``dict`` is recorded, and ``config.lr = 0.1`` is ``config["lr"]``.
    A change inside a value (``config["optimizer"]["lr"] = 0.1``) is recorded with the next of these
    calls, within ten seconds, and when the run ends. What JSON cannot hold (classes, functions) is
    recorded as its text.
    """

    def __init__(self, run: Run, stored: Mapping[str, Any]) -> None:
        super().__init__(stored)
        self._run = run
        self._recorded = _texts(stored)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Merge mappings, dataclasses, namespaces or other objects, and keywords."""
        changes: dict[str, Any] = {}
        for arg in args:
            changes.update(_encoding.mapping(arg))
        super().update({**changes, **kwargs})
        self._record()

    def replace(self, source: Any) -> None:
        """Make *source* the whole configuration, as ``run.config = source`` does."""
        members = dict(_encoding.mapping(source))
        super().clear()
        super().update(members)
        self._record()

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._record()

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._record()

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:
        value = super().setdefault(key, default)
        self._record()
        return value

    def pop(self, *args: Any) -> Any:
        value = super().pop(*args)
        self._record()
        return value

    def popitem(self) -> tuple[str, Any]:
        item = super().popitem()
        self._record()
        return item

    def clear(self) -> None:
        super().clear()
        self._record()

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"The configuration has no {name!r}.")

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        elif hasattr(Config, name):
            raise AttributeError(f"config.{name} is a method: write config[{name!r}] = ...")
        else:
            self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(f"The configuration has no {name!r}.")
        del self[name]

    def __reduce__(self) -> Any:
        return dict, (dict(self),)  # a copy, or what is saved with a model, belongs to no run

    def _record(self) -> None:
        """Write what is not in the file as it is here; a document that is whole costs no write."""
        values = _encoding.lenient(self)
        texts = _texts(values)
        changes: dict[str, Any] = {
            key: values[key] for key in values if self._recorded.get(key) != texts[key]
        }
        changes |= dict.fromkeys(self._recorded.keys() - values.keys(), _REMOVED)
        self._recorded = texts
        if changes:
            self._run._merge(layout.CONFIG, changes)


class Run:
    """One execution that logs. Creating it creates (or continues) its directory.

    *project*, *name*: where it belongs, ``<storage>/<project>/<name>/runs/<id>``. *storage*: the
    storage root; see :func:`runicorn.layout.storage_root` for the default. *run_id*: continue the
    run with this id, join it if its process is alive (the ranks of one training), or create it.
    *resume*: True takes the run over even then, False raises FileExistsError if it exists.
    *config*: hyperparameters. *capture_console*: True records what is printed through
    ``sys.stdout`` and ``sys.stderr``, and what handlers of ``logging`` write there; "fd" what
    arrives at the terminal by any way, of subprocesses and C libraries too, by a process of its
    own that outlives a crash (not on Windows). *capture_env*: record packages, git state and the
    like, in the background. *system_metrics*: what processor, memory,
    disks, network and GPUs do is sampled in the background every 15 seconds; a number is the
    seconds in between, False turns it off (as ``RUNICORN_SYSTEM_METRICS=0`` does everywhere).

    Raises ValueError for names that would leave the storage root, and OSError if the directory
    cannot be written.
    """

    def __init__(
        self,
        project: str = "default",
        storage: str | os.PathLike[str] | None = None,
        run_id: str | None = None,
        name: str | None = None,
        capture_env: bool = True,
        *,
        config: Any = None,
        capture_console: bool | Literal["fd"] = False,
        resume: bool | None = None,
        system_metrics: bool | float | None = None,
    ) -> None:
        self.project = layout.check_name("project", project or "default")
        self.name = layout.check_name("name", name or "default")
        if run_id:
            layout.check_name("run_id", run_id)
        if capture_console not in (True, False, "fd"):
            raise ValueError(f"capture_console is True, False or 'fd', not {capture_console!r}")
        settings = _encoding.mapping(config) if config is not None else {}
        interval = _sampling.interval(system_metrics)
        self.storage_root = layout.storage_root(storage)
        self.project_dir = self.storage_root / self.project
        self.experiment_dir = self.project_dir / self.name
        self.runs_dir = self.experiment_dir / layout.RUNS
        with _Undo() as undo:
            self.run_dir = undo.make_run_dir(self.runs_dir, run_id)
            self.id = self.run_dir.name
            self.media_dir = self.run_dir / layout.MEDIA
            self.media_dir.mkdir(exist_ok=True)
            undo.keep(self.run_dir / layout.META, self.run_dir / layout.STATUS)
            with _lifecycle.signals_wait():
                self._claim = _claim.claim(self.run_dir, self._meta(), resume=resume)
            undo.remove(self._claim.heartbeat)
            self._start(settings, capture_console, capture_env, interval)
        _lifecycle.watch(self)

    def _start(
        self,
        settings: dict[str, Any],
        capture_console: bool | Literal["fd"],
        capture_env: bool,
        interval: float,
    ) -> None:
        events = self.run_dir / layout.EVENTS
        self._count_from(_claim.last_step(events))
        self._events = LineWriter(events)
        self._logs = LineWriter(self.run_dir / layout.LOGS)
        self._system = LineWriter(self.run_dir / layout.SYSTEM)
        self._unsaved: dict[str, dict[str, Any]] = {}
        self._ending: str | None = None
        self._saving = threading.RLock()
        self._is_saving = False
        self._complained: set[Path] = set()
        self._finished = False
        self._is_lost = False
        self._monitor: MetricMonitor | None = None
        self._anomaly_detector: AnomalyDetector | None = None

        self._previous = layout.read_json(self.run_dir / layout.SUMMARY)
        self._metric: str | None = None
        self._mode = "max"
        self._best: tuple[float, int] | None = None
        self._continue_best()

        self._config = Config(self, layout.read_json(self.run_dir / layout.CONFIG))
        if settings:
            self._config.update(settings)
        self._is_in_bin = False
        self._look_into_bin()
        self._environment: threading.Thread | None = None
        self._sampler: _sampling.Sampler | None = None
        self._console = None
        try:
            if capture_env and self._claim.is_recorder:
                self._environment = self._capture_environment()
            if self._claim.is_recorder and interval:
                self._sampler = _sampling.Sampler(self._log_sample, interval)
        except RuntimeError as error:  # as many threads as this process may have
            logger.warning("Run %s records neither environment nor system: %s", self.id, error)
        if capture_console:
            from ._console import ConsoleCapture

            self._console = ConsoleCapture(
                lambda line: self._logs.append(text_line(line)),
                self._logs.path if capture_console == "fd" else None,
            )

    # -- logging -------------------------------------------------------------------------------

    def log(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        step: Any = None,
        stage: Any = None,
        **values: Any,
    ) -> None:
        """Record *data* and *values* (which win) as one event.

        *step*: an explicit step, from which counting goes on; without it, the last step plus one.
        *stage*: a label such as ``train``. Raises TypeError for values that JSON cannot hold.
        """
        # The hot path: ``self._events.append(encode(event))``, spelt out, since a call that is not
        # made is a twentieth of the time.
        if data:
            values = {**data, **values} if values else {**data}
            if "step" in values:
                del values["step"]
            if "stage" in values:
                label = values.pop("stage")
                stage = label if stage is None else stage
        elif data is not None and not isinstance(data, Mapping):
            raise TypeError(f"log() takes a mapping, not {type(data).__name__}")
        now = clock()
        values["global_step"] = next(self._steps) if step is None else self._go_to(step)
        values["time"] = now
        if stage is not None:
            values["stage"] = stage
        event = {"ts": now, "type": "metrics", "data": values}
        events = self._events
        try:
            line = dumps(event, plain, OPTIONS)
            # To look for one byte costs next to nothing; to look for four, a tenth of the write.
            if _N in line and _U in line and b"null" in line:
                line = self._encode_unusual(event)
        except TypeError:
            line = self._encode_unusual(event)
        try:
            written = write(events.fd, line)
        except OSError:
            written = 0
        if written != len(line) and not events.append_later(line, written):
            self._complain(events.path)
        if self._metric is not None and self._metric in values:
            self._track(values[self._metric], values["global_step"])

    def _count_from(self, step: int) -> None:
        self._steps = count(step + 1)  # atomic: threads never get the same step

    def _go_to(self, step: Any) -> int:
        try:
            step = int(step)
        except (TypeError, ValueError, OverflowError):
            logger.warning("Step %r is no number: counting on instead.", step)
            return next(self._steps)
        if abs(step) <= layout.LARGEST_STEP:
            self._count_from(step)
        else:
            logger.warning(
                "A step beyond 64 bits is kept, but counting goes on from the one before."
            )
        return step  # type: ignore[no-any-return]

    def log_text(self, text: str) -> None:
        """Append *text* to the log, with the local time in front."""
        if not self._logs.append(text_line(text)):
            self._complain(self._logs.path)

    def log_image(
        self,
        key: str,
        image: Any,
        step: int | None = None,
        caption: str | None = None,
        format: str = "png",
        quality: int = 90,
    ) -> str:
        """Keep an image; return its path relative to the run directory.

        *image*: a Pillow image of any mode, an array or tensor (height x width, channels last or
        first; 0 to 255, or floats from 0 to 1), a figure of matplotlib, bytes, or the path of a
        file; the last two are copied as they are. *quality*: 1 to 100, for formats that have it.
        Raises FileNotFoundError for a missing file, RuntimeError for an array without Pillow,
        TypeError and ValueError for what is no image.
        """
        try:
            content = _images.encode(image, format, quality)
        except _WRONG_IMAGES:
            raise
        except Exception as error:  # a picture that Pillow cannot read to its end
            logger.warning("Run %s: the image %r was not kept: %s", self.id, key, error)
            content = None
        path = f"{layout.MEDIA}/{_images.file_name(key, format)}"
        data = {"key": key, "path": path, "step": step, "caption": caption}
        event = encode({"ts": clock(), "type": "image", "data": data})
        if content is None:
            return path
        try:
            layout.write_bytes(self.run_dir / path, content)
        except OSError as error:
            self._complain(self.media_dir, error)
            return path
        if not self._events.append(event):
            self._complain(self._events.path)
        return path

    def summary(self, update: Mapping[str, Any]) -> None:
        """Merge *update* into the run's summary. Raises TypeError for what JSON cannot hold."""
        self._merge(layout.SUMMARY, _encoding.strict(update))

    # -- artifacts -----------------------------------------------------------------------------

    def log_artifact(self, artifact: Artifact) -> int:
        """Save *artifact* as its next version, created by this run; returns the number.

        Raises ValueError if there is nothing to save, and OSError if it cannot be written.
        """
        from .artifacts.artifact import log_artifact

        return log_artifact(self, artifact)

    def use_artifact(self, spec: str) -> Artifact:
        """The version that ``name:v3`` or ``name:alias`` names; the run is noted as its user.

        Raises ValueError for an alias that does not exist, FileNotFoundError for the rest.
        """
        from .artifacts.artifact import use_artifact

        return use_artifact(self, spec)

    # -- what looks wrong ----------------------------------------------------------------------

    @property
    def monitor(self) -> MetricMonitor:
        """Checks each event that is logged after this was first asked for, and writes its alerts
        to the run's log. A loss that is no number is noticed even without."""
        if self._monitor is None:
            from .monitoring import MetricMonitor

            self._monitor = MetricMonitor()
            # In the way of the method, so that a run without rules of its own pays for none.
            self.log = self._log_and_check  # type: ignore[method-assign]
        return self._monitor

    @property
    def anomaly_detector(self) -> AnomalyDetector:
        """For the script to use; nothing is checked with it by itself."""
        if self._anomaly_detector is None:
            from .monitoring import AnomalyDetector

            self._anomaly_detector = AnomalyDetector()
        return self._anomaly_detector

    def _log_and_check(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        step: Any = None,
        stage: Any = None,
        **values: Any,
    ) -> None:
        Run.log(self, data, step=step, stage=stage, **values)
        metrics = {k: v for k, v in {**(data or {}), **values}.items() if k not in _NO_METRICS}
        self._alert(self.monitor.check_metrics(metrics))

    def _encode_unusual(self, event: dict[str, Any]) -> bytes:
        """An event that may hold a NaN or an infinity: those are found, and told, for free."""
        line = encode(event)
        if self._monitor is None:
            from .monitoring import MetricMonitor

            self._alert(MetricMonitor().check_metrics(event["data"]))
        return line

    def _alert(self, messages: list[str]) -> None:
        for message in messages:
            self.log_text(message)

    def _log_sample(self, sample: dict[str, float]) -> None:
        self._system.append(encode({"ts": clock(), "type": "system", "data": sample}))

    # -- the best value ------------------------------------------------------------------------

    def set_primary_metric(self, metric_name: str, mode: str = "max") -> None:
        """Keep the best value of this metric, from now on; ``finish`` writes it to the summary.

        Its name is written at once, so that a viewer shows the best value while the run lives, and
        when it was killed. *mode*: ``max`` or ``min`` is better. Raises ValueError for another.
        """
        if mode not in ("max", "min"):
            raise ValueError(f"Mode must be 'max' or 'min', got '{mode}'")
        self._metric, self._mode = metric_name, mode
        self._best = self._best_in(self._previous)
        named = {"best_metric_name": metric_name, "best_metric_mode": mode}
        summary = layout.read_json(self.run_dir / layout.SUMMARY)
        if any(summary.get(key) != value for key, value in named.items()):
            # A value that is there is another metric's.
            nothing = {"best_metric_value": None, "best_metric_step": None}
            self._merge(layout.SUMMARY, named | nothing)

    def _continue_best(self) -> None:
        name, mode = (self._previous.get(f"best_metric_{key}") for key in ("name", "mode"))
        if isinstance(name, str) and mode in ("max", "min"):
            self.set_primary_metric(name, mode)

    def _best_in(self, summary: dict[str, Any]) -> tuple[float, int] | None:
        """The best (value, step) of the primary metric that *summary* holds."""
        same = (self._metric, self._mode)
        if (summary.get("best_metric_name"), summary.get("best_metric_mode")) != same:
            return None
        value: Any = summary.get("best_metric_value")
        step = summary.get("best_metric_step")
        return (value, step) if _is_finite(value) and isinstance(step, int) else None

    def _track(self, value: Any, step: int) -> None:
        if not isinstance(value, int | float) and hasattr(value, "item"):
            value = plain(value)
        if _is_finite(value) and self._is_better(value, self._best):
            self._best = (value, step)

    def _is_better(self, value: float, than: tuple[float, int] | None) -> bool:
        return than is None or (value > than[0] if self._mode == "max" else value < than[0])

    def _save_best(self) -> None:
        if self._best is None:
            return
        stored = self._best_in(layout.read_json(self.run_dir / layout.SUMMARY))
        value, step = self._best
        if self._is_better(value, stored):  # another rank may have done better
            self._merge(
                layout.SUMMARY,
                {
                    "best_metric_value": plain(value) if hasattr(value, "item") else value,
                    "best_metric_name": self._metric,
                    "best_metric_step": step,
                    "best_metric_mode": self._mode,
                },
            )

    # -- the end -------------------------------------------------------------------------------

    def finish(self, status: str = "finished") -> None:
        """Say that the run has ended, and how: ``finished``, ``failed``, ``interrupted`` or any
        other word. The last call counts; logging afterwards still works. A run of several
        processes ends with the last of them, as ``failed`` if one of them has failed."""
        if self._environment is not None:
            self._environment.join(_ENVIRONMENT_TIMEOUT_S)
        self._end(status)

    def interrupt(self) -> None:
        """``finish("interrupted")`` for the little time that a signal leaves."""
        self._end("interrupted")

    def _end(self, status: str) -> None:
        self._finished = True
        _lifecycle.forget(self)
        if self._sampler is not None:
            self._sampler.stop()
        self.stop_capturing()
        self.close()
        self._save_best()
        self._config._record()
        self._ending = str(status or "finished")
        self._save_documents()

    def stop_capturing(self) -> None:
        """Record no more of what is printed."""
        if self._console is not None:
            self._console.stop()

    def close(self) -> None:
        """Put on the disk whatever it takes, and hold no file open any more."""
        if self._has_unsaved() or self._ending is not None:
            self._save_documents()
        for writer in (self._events, self._logs, self._system):
            writer.close()
            if (writer.waiting or writer.dropped) and not self._is_lost:
                logger.warning(
                    "%s: %d lines could not be written and %d were dropped.",
                    *(writer.path, writer.waiting, writer.dropped),
                )

    def after_fork(self) -> None:
        """In a child process: let go of what belongs to the parent."""
        for part in (self._events, self._logs, self._system, self._console):
            if part is not None:
                part.after_fork()
        self._environment = None
        self._sampler = None
        self._saving = threading.RLock()
        self._is_saving = False
        self._unsaved.clear()  # the parent's to write
        self._ending = None

    def look_after(self) -> None:
        """Do what is due every ten seconds: show a sign of life, notice what became of the folder,
        and write what could not be written before."""
        if self._is_lost or not self._is_there():
            return
        self._look_into_bin()
        for writer in (self._events, self._logs, self._system):
            writer.check()
        self._config._record()
        if self._has_unsaved():
            self._save_documents()

    def _is_there(self) -> bool:
        try:
            self._claim.beat()
            return True
        except FileNotFoundError:
            pass
        except OSError:  # a disk that is away for now
            return True
        self._is_lost = True
        if self.run_dir.is_dir():
            logger.warning(
                "Run %s was taken over by another process. Both log to it, and only the other one "
                "says when it ends.",
                self.id,
            )
        else:
            logger.warning(
                "The folder of run %s, %s, was removed or moved away. Training goes on; what is "
                "logged from now on is lost. runicorn.init() starts a new run.",
                *(self.id, self.run_dir),
            )
        return False

    def _look_into_bin(self) -> None:
        is_in_bin = (self.run_dir / layout.DELETED).exists()
        if is_in_bin and not self._is_in_bin:
            logger.warning(
                "Run %s is in the recycle bin: no list shows it, and emptying the bin removes it "
                "with all that is logged. Restore it to keep it.",
                self.id,
            )
        self._is_in_bin = is_in_bin

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if not self._finished:
            self.finish(_lifecycle.status_after(error))

    # -- files ---------------------------------------------------------------------------------

    @property
    def config(self) -> Config:
        return self._config

    @config.setter
    def config(self, source: Any) -> None:
        if source is not self._config:  # ``run.config |= …`` ends in an assignment
            self._config.replace(source)

    def _meta(self) -> dict[str, Any]:
        import platform

        return {
            "id": self.id,
            "project": self.project,
            "name": self.name,
            "created_at": clock(),
            "python": sys.version.split()[0],
            "platform": f"{platform.system()} {platform.release()} ({platform.machine()})",
            "hostname": "",
            "pid": 0,
            "storage_dir": str(self.storage_root),
            **_claim.signature(),
        }

    def _merge(self, document: str, changes: dict[str, Any]) -> None:
        """Merge *changes* into a document, together with what could not be written before."""
        with self._saving:
            self._unsaved.setdefault(document, {}).update(changes)
            self._save_documents()

    def _save_documents(self) -> None:
        """Write what waits; what the disk refuses goes on waiting.

        A signal handler may call this in the middle of itself, where the lock of a document is
        held: it leaves its changes to whom it interrupted, who looks again before it ends.
        """
        with self._saving:
            if self._is_saving:
                return
            with _lifecycle.signals_wait():
                self._is_saving = True
                try:
                    self._save_unsaved()
                finally:
                    self._is_saving = False

    def _has_unsaved(self) -> bool:
        return any(list(self._unsaved.values()))

    def _save_unsaved(self) -> None:
        refused: set[str] = set()
        while True:
            # A signal handler may add to these dictionaries between any two steps here: they are
            # copied and popped in one step each, and an empty one stays where it is.
            documents = [
                name
                for name, changes in list(self._unsaved.items())
                if changes and name not in refused
            ]
            if not documents:
                if self._ending is None or layout.STATUS in refused:
                    return
                if not self._save_ending():
                    refused.add(layout.STATUS)
            for document in documents:
                path = self.run_dir / document
                changes = self._unsaved[document]
                written = dict(changes)
                try:
                    with layout.locked_in_run(path):
                        data = {**(layout.load_for_change(path) or {}), **written}
                        kept = {key: data[key] for key in data if data[key] is not _REMOVED}
                        layout.write_json(path, kept)
                except Exception as error:  # the values are right: it is the machine's trouble
                    refused.add(document)
                    self._complain(path, error)
                    continue
                for key, value in written.items():
                    newest = changes.pop(key, value)
                    if newest is not value:
                        changes.setdefault(key, newest)

    def _save_ending(self) -> bool:
        status = self._ending
        assert status is not None
        try:
            self._claim.end(status)
        except Exception as error:
            self._complain(self.run_dir / layout.STATUS, error)
            return False
        if self._ending is status:  # else: a signal handler said something else meanwhile
            self._ending = None
        return True

    def _complain(self, path: Path, error: Exception | None = None) -> None:
        if path in self._complained or self._is_lost:
            return
        self._complained.add(path)
        if not self.run_dir.is_dir():
            self._is_there()
        else:
            logger.warning(
                "Run %s cannot write to %s (%s). Training goes on; what is logged is kept in "
                "memory and written as soon as that works again.",
                *(self.id, path, error or "disk full or not writable"),
            )

    def _capture_environment(self) -> threading.Thread:
        try:
            directory = Path.cwd()
        except OSError:  # it was removed
            directory = self.run_dir

        def capture() -> None:
            try:
                from . import environment

                environment.capture_for_run(self.run_dir, directory, storage_root=self.storage_root)
            except Exception as error:
                logger.warning("Could not capture the environment of run %s: %s", self.id, error)

        thread = threading.Thread(target=capture, name="runicorn-environment", daemon=True)
        thread.start()
        return thread


class _Undo:
    """Makes the folder of a run, and unmakes what was made if the block ends with an error."""

    def __init__(self) -> None:
        self._made: list[Path] = []
        self._contents: dict[Path, bytes | None] = {}

    def make_run_dir(self, runs_dir: Path, run_id: str | None) -> Path:
        missing = [each for each in (runs_dir, *runs_dir.parents) if not each.exists()]
        self._made += reversed(missing)
        runs_dir.mkdir(parents=True, exist_ok=True)
        while True:
            run_dir = runs_dir / (run_id or layout.new_run_id())
            try:
                run_dir.mkdir()
            except FileExistsError:
                if run_id:
                    return run_dir
                continue
            self._made.append(run_dir)
            return run_dir

    def keep(self, *paths: Path) -> None:
        """Remember what is in *paths*, to be written back."""
        for path in paths:
            try:
                self._contents[path] = path.read_bytes()
            except OSError:
                self._contents[path] = None

    def remove(self, path: Path) -> None:
        self._contents[path] = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is None:
            return
        for path, content in self._contents.items():
            try:
                if content is None:
                    path.unlink(missing_ok=True)
                else:
                    layout.write_bytes(path, content)
            except OSError:
                pass
        for path in reversed(self._made):
            try:
                if path is self._made[-1] and path.parent.name == layout.RUNS:
                    shutil.rmtree(path)
                else:
                    path.rmdir()  # unless another process has put something in it
            except OSError:
                return


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return what each member looks like in JSON, where NaN equals NaN."""
    return {key: json.dumps(value, sort_keys=True) for key, value in values.items()}


# -- the active run ----------------------------------------------------------------------------


def init(
    project: str = "default",
    storage: str | os.PathLike[str] | None = None,
    run_id: str | None = None,
    name: str | None = None,
    capture_env: bool = True,
    *,
    config: Any = None,
    capture_console: bool | Literal["fd"] = False,
    resume: bool | None = None,
    system_metrics: bool | float | None = None,
) -> Run:
    """Start a :class:`Run` and make it the active one, which the functions below write to.

    A run that was active before is not finished by this; what is printed is recorded in it no
    more.
    """
    global _active
    previous = _active
    if previous is not None and not previous._finished:
        previous.stop_capturing()
    _active = Run(
        project,
        storage,
        run_id,
        name,
        capture_env,
        config=config,
        capture_console=capture_console,
        resume=resume,
        system_metrics=system_metrics,
    )
    return _active


def get_active_run() -> Run | None:
    return _active


def _run() -> Run:
    if _active is None:
        raise RuntimeError("runicorn.init() must be called before logging")
    return _active


def log(
    data: Mapping[str, Any] | None = None, *, step: Any = None, stage: Any = None, **values: Any
) -> None:
    """:meth:`Run.log` of the active run."""
    run = _active or _run()
    if values:
        run.log(data, step=step, stage=stage, **values)
    else:  # to pass on even an empty mapping takes time
        run.log(data, step=step, stage=stage)


def log_text(text: str) -> None:
    """:meth:`Run.log_text` of the active run."""
    _run().log_text(text)


def log_image(
    key: str,
    image: Any,
    step: int | None = None,
    caption: str | None = None,
    format: str = "png",
    quality: int = 90,
) -> str:
    """:meth:`Run.log_image` of the active run."""
    return _run().log_image(key, image, step, caption, format, quality)


def summary(update: Mapping[str, Any]) -> None:
    """:meth:`Run.summary` of the active run."""
    _run().summary(update)


def set_primary_metric(metric_name: str, mode: str = "max") -> None:
    """:meth:`Run.set_primary_metric` of the active run."""
    _run().set_primary_metric(metric_name, mode)


def finish(status: str = "finished") -> None:
    """:meth:`Run.finish` of the active run, which stays active."""
    _run().finish(status)
