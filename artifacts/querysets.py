"""Questions about many artifacts, versions and contents, in the domain's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.db.models import Count, Exists, F, Max, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce

from runicorn.artifacts.lineage import VersionKey

if TYPE_CHECKING:
    from .models import Artifact, Blob, Usage, Version  # noqa: F401  (named as text below)


class ArtifactQuerySet(models.QuerySet["Artifact"]):
    def visible_to(self, user: Any) -> Self:
        """The artifacts that *user* may see. The embedded default knows no users: everything."""
        return self.all()

    def with_versions(self) -> Self:
        """Only those that have versions; adds ``num_versions``, ``latest_version`` and
        ``latest_size``, in bytes."""
        from .models import Version

        newest = Version.objects.filter(artifact=OuterRef("pk")).order_by("-number")
        return self.annotate(
            num_versions=Count("versions"),
            latest_version=Max("versions__number"),
            latest_size=Subquery(newest.values("size_bytes")[:1]),
        ).filter(num_versions__gt=0)

    def matching(self, text: str) -> Self:
        """Whose name or type contains each word of *text*."""
        found = self.all()
        for word in text.replace("\x00", "").split():
            found = found.filter(Q(name__icontains=word) | Q(type__icontains=word))
        return found


class VersionQuerySet(models.QuerySet["Version"]):
    def visible_to(self, user: Any) -> Self:
        """The versions that *user* may see. The embedded default knows no users: everything."""
        return self.all()

    def active(self) -> Self:
        return self.filter(deleted_at__isnull=True)

    def deleted(self) -> Self:
        return self.filter(deleted_at__isnull=False)

    def here(self) -> Self:
        """Those whose files are on this machine."""
        return self.filter(has_files=True)

    def called(self, key: VersionKey) -> Self:
        return self.filter(artifact__name=key.name, artifact__type=key.type, number=key.version)

    def totals(self) -> dict[str, int]:
        """``artifacts``, ``versions``, ``size_bytes`` and ``files``."""
        return self.aggregate(
            artifacts=Count("artifact", distinct=True),
            versions=Count("pk"),
            size_bytes=Coalesce(Sum("size_bytes"), 0),
            files=Coalesce(Sum("num_files"), 0),
        )

    def totals_by_type(self) -> dict[str, dict[str, int]]:
        rows = self.values("artifact__type").annotate(
            count=Count("artifact", distinct=True),
            versions=Count("pk"),
            total=Coalesce(Sum("size_bytes"), 0),
        )
        return {
            row["artifact__type"]: {
                "count": row["count"],
                "versions": row["versions"],
                "size_bytes": row["total"],
            }
            for row in rows.order_by("artifact__type")
        }


class BlobQuerySet(models.QuerySet["Blob"]):
    def stored_bytes(self) -> int:
        """What the contents take on this machine, each counted once."""
        return self._here().aggregate(total=Coalesce(Sum("size_bytes"), 0))["total"]

    def referred_bytes(self) -> int:
        """What they would take if every version had its own."""
        here = None if _all_files_are_here() else Q(files__version__has_files=True)
        total = Coalesce(Sum("files__blob__size_bytes", filter=here), 0)
        return self.aggregate(total=total)["total"]

    def _here(self) -> Self:
        if _all_files_are_here():
            return self.all()
        from .models import File

        held = File.objects.filter(blob=OuterRef("pk"), version__has_files=True)
        return self.filter(Exists(held))

    def visible_to(self, user: Any) -> Self:
        """The contents that *user* may see. The embedded default knows no users: everything."""
        return self.all()

    def only_in(self, versions: list[Version]) -> Self:
        """Which no version but these refers to: what purging them frees."""
        mine = Q(files__version__in=versions)
        counted = self.filter(mine).annotate(
            inside=Count("files", filter=mine),
            total=Subquery(
                self.model.objects.filter(pk=OuterRef("pk"))
                .annotate(total=Count("files"))
                .values("total")[:1]
            ),
        )
        return self.filter(pk__in=counted.filter(inside=F("total")).values("pk"))

    def unused(self) -> Self:
        return self.filter(files__isnull=True)

    def ids(self, sizes: dict[str, int]) -> dict[str, int]:
        """The key of each digest in *sizes*; rows that are missing are made."""
        self.bulk_create(
            [self.model(digest=digest, size_bytes=size) for digest, size in sizes.items()],
            ignore_conflicts=True,
            batch_size=1000,
        )
        digests = list(sizes)
        found: dict[str, int] = {}
        for start in range(0, len(digests), 1000):
            part = self.filter(digest__in=digests[start : start + 1000])
            found |= dict(part.values_list("digest", "pk"))
        return found


def _all_files_are_here() -> bool:
    """As in every store but one that is synced with a host on demand: then nothing is joined."""
    from .models import Version

    return not Version.objects.filter(has_files=False).exists()


class UsageQuerySet(models.QuerySet["Usage"]):
    def visible_to(self, user: Any) -> Self:
        """The usages that *user* may see. The embedded default knows no users: everything."""
        return self.all()

    def of(self, key: VersionKey) -> Self:
        return self.filter(name=key.name, type=key.type, number=key.version)

    def keys(self) -> list[VersionKey]:
        rows = self.order_by("pk").values_list("name", "type", "number")
        return [VersionKey(*row) for row in rows]
