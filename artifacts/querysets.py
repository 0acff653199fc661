"""Queries for artifacts, versions and contents, in the terms of the domain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

from django.db.models import Count, Exists, F, FloatField, Max, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Cast, Coalesce

from core.access import AccessQuerySet
from runicorn.artifacts.lineage import VersionKey

if TYPE_CHECKING:
    from .models import Artifact, Blob, Usage, Version  # noqa: F401  (named as text below)


def _sum(field: str, **options: Any) -> Coalesce:
    """Return a sum as a floating-point number, exact to 2^53.

    Foreign manifests may claim sizes whose sum exceeds a database's integers, which is an error.
    """
    return Coalesce(Sum(Cast(field, FloatField()), **options), 0.0)


class ArtifactQuerySet(AccessQuerySet["Artifact"]):
    def with_versions(self) -> Self:
        """Keep artifacts with versions; add ``num_versions``, ``latest_version`` and
        ``latest_size``, in bytes."""
        from .models import Version

        newest = Version.objects.filter(artifact=OuterRef("pk")).order_by("-number")
        return self.annotate(
            num_versions=Count("versions"),
            latest_version=Max("versions__number"),
            latest_size=Subquery(newest.values("size_bytes")[:1]),
        ).filter(num_versions__gt=0)

    def quick_search(self, text: str) -> Self:
        """Keep artifacts whose name or type contains each word of *text*."""
        artifacts = self.all()
        for word in text.replace("\x00", "").split():
            artifacts = artifacts.filter(Q(name__icontains=word) | Q(type__icontains=word))
        return artifacts


class VersionQuerySet(AccessQuerySet["Version"]):
    def active(self) -> Self:
        return self.filter(deleted_at__isnull=True)

    def deleted(self) -> Self:
        return self.filter(deleted_at__isnull=False)

    def local(self) -> Self:
        """Keep versions whose files are on this machine."""
        return self.filter(has_files=True)

    def called(self, key: VersionKey) -> Self:
        return self.filter(artifact__name=key.name, artifact__type=key.type, number=key.version)

    def totals(self) -> dict[str, int]:
        """Return the totals ``artifacts``, ``versions``, ``size_bytes`` and ``files``."""
        totals = self.aggregate(
            artifacts=Count("artifact", distinct=True),
            versions=Count("pk"),
            size_bytes=_sum("size_bytes"),
            files=_sum("num_files"),
        )
        return {key: int(value) for key, value in totals.items()}

    def totals_by_type(self) -> dict[str, dict[str, int]]:
        rows = self.values("artifact__type").annotate(
            count=Count("artifact", distinct=True),
            versions=Count("pk"),
            total=_sum("size_bytes"),
        )
        return {
            row["artifact__type"]: {
                "count": row["count"],
                "versions": row["versions"],
                "size_bytes": int(row["total"]),
            }
            for row in rows.order_by("artifact__type")
        }


class BlobQuerySet(AccessQuerySet["Blob"]):
    def stored_bytes(self) -> int:
        """Return the size of the contents on this machine, each counted once."""
        return int(self._local().aggregate(total=_sum("size_bytes"))["total"])

    def referred_bytes(self) -> int:
        """Return the size that they would have if every version had its own copy."""
        is_local = None if _all_files_are_local() else Q(files__version__has_files=True)
        return int(self.aggregate(total=_sum("files__blob__size_bytes", filter=is_local))["total"])

    def _local(self) -> Self:
        if _all_files_are_local():
            return self.all()
        from .models import File

        local_files = File.objects.filter(blob=OuterRef("pk"), version__has_files=True)
        return self.filter(Exists(local_files))

    def only_in(self, versions: list[Version]) -> Self:
        """Keep contents that only *versions* refer to, which purging these would free."""
        in_versions = Q(files__version__in=versions)
        counted = self.filter(in_versions).annotate(
            inside=Count("files", filter=in_versions),
            total=Subquery(
                self.model.objects.filter(pk=OuterRef("pk"))
                .annotate(total=Count("files"))
                .values("total")[:1]
            ),
        )
        return self.filter(pk__in=counted.filter(inside=F("total")).values("pk"))

    def unused(self) -> Self:
        return self.filter(files__isnull=True)

    def known_to(self, user: Any, digests: Iterable[str]) -> set[str]:
        """Return those of *digests* that belong to a version that *user* may see."""
        from .models import File, Version

        visible = Version.objects.visible_to(user)
        files = File.objects.filter(version__in=visible).order_by()
        asked_digests, known_digests = list(digests), set[str]()
        for start in range(0, len(asked_digests), 1000):
            batch = files.filter(blob__digest__in=asked_digests[start : start + 1000])
            known_digests.update(batch.values_list("blob__digest", flat=True))
        return known_digests

    def ids(self, sizes: dict[str, int], *, really: Callable[[str], int | None]) -> dict[str, int]:
        """Return the key of each digest in *sizes*; create missing rows.

        Their size is what *really* returns for the content, if known: a manifest may be wrong.
        """
        keys = self._keys(sizes)
        missing = [digest for digest in sizes if digest not in keys]
        self.bulk_create(
            [
                self.model(digest=digest, size_bytes=sizes[digest] if size is None else size)
                for digest, size in zip(missing, map(really, missing), strict=True)
            ],
            ignore_conflicts=True,
            batch_size=1000,
        )
        return keys | self._keys(missing)

    def _keys(self, digests: Iterable[str]) -> dict[str, int]:
        all_digests, keys = list(digests), dict[str, int]()
        for start in range(0, len(all_digests), 1000):
            batch = self.filter(digest__in=all_digests[start : start + 1000])
            keys |= dict(batch.values_list("digest", "pk"))
        return keys


def _all_files_are_local() -> bool:
    """Return whether no version's files are on a host only, which saves joins in most stores."""
    from .models import Version

    return not Version.objects.filter(has_files=False).exists()


class UsageQuerySet(AccessQuerySet["Usage"]):
    def of(self, key: VersionKey) -> Self:
        return self.filter(name=key.name, type=key.type, number=key.version)

    def keys(self) -> list[VersionKey]:
        rows = self.order_by("pk").values_list("name", "type", "number")
        return [VersionKey(*row) for row in rows]
