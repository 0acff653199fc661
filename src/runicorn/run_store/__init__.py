"""What people do to runs: one function per verb, for the server, the command line and scripts.

>>> store = RunStore(root)
>>> directory = store.find("20260102_030405_0a1b2c")
>>> store.tag(directory, ["best"])
>>> store.delete(directory, by="ada")

The files of the storage root are the truth. A run is named by its folder, relative to the root: a
copy of a run's folder has the same id, and is another run.
"""

from __future__ import annotations

from .annotation import Annotations, merged, of_record, parse
from .errors import AmbiguousRun, RunConflict, RunNotFound, RunRefused
from .experiments_file import ExperimentsFile, experiments_file
from .store import RunStore, StoredRun, annotations_document, annotations_of, size_of

__all__ = [
    "AmbiguousRun",
    "Annotations",
    "ExperimentsFile",
    "RunConflict",
    "RunNotFound",
    "RunRefused",
    "RunStore",
    "StoredRun",
    "annotations_document",
    "annotations_of",
    "experiments_file",
    "merged",
    "of_record",
    "parse",
    "size_of",
]
