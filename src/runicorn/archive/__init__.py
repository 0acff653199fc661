"""Archives of runs: written as Runicorn 0.4 writes them, read as if a stranger had sent them.

An archive is a gzip tar of run folders under their paths relative to the storage root; with
``artifacts=True`` (beyond 0.4) the artifact versions that these runs made or used come along.

>>> with open(default_name(), "wb") as file:
...     file.writelines(export_runs(root, run_dirs))
>>> report = import_archive(name, other_root)
"""

from __future__ import annotations

from ._formats import ArchiveError, ArchiveTooLarge, Limits
from ._importing import Report, import_archive
from ._places import is_run
from ._writing import default_name, export_runs

__all__ = [
    "ArchiveError",
    "ArchiveTooLarge",
    "Limits",
    "Report",
    "default_name",
    "export_runs",
    "import_archive",
    "is_run",
]
