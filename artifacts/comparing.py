"""The comparison of two versions, file by file."""

from __future__ import annotations

from typing import Any

from .models import Version


def compare(old: Version, new: Version) -> dict[str, Any]:
    """Return ``added``, ``removed`` and ``changed`` files (path, size, digest), and the number of
    ``unchanged`` ones."""
    before, after = _files(old), _files(new)
    common = sorted(before.keys() & after.keys())
    changed = [path for path in common if before[path] != after[path]]
    return {
        "added": [{"path": path, **after[path]} for path in sorted(after.keys() - before.keys())],
        "removed": [
            {"path": path, **before[path]} for path in sorted(before.keys() - after.keys())
        ],
        "changed": [{"path": path, "from": before[path], "to": after[path]} for path in changed],
        "unchanged": len(common) - len(changed),
    }


def _files(version: Version) -> dict[str, dict[str, Any]]:
    rows = version.files.values_list("path", "blob__size_bytes", "blob__digest")
    return {path: {"size": size, "digest": f"sha256:{digest}"} for path, size, digest in rows}
