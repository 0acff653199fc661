"""Questions about many artifacts, versions and contents, in the domain's words."""

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
    """As a floating-point number, exact to 2^53: foreign manifests may claim sizes whose sum is
    beyond what a database's integers hold, which would then be an error."""
    return Coalesce(Sum(Cast(field, FloatField()), **options), 0.0)


class ArtifactQuerySet(AccessQuerySet["Artifact"]):
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


class VersionQuerySet(AccessQuerySet["Version"]):
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
        found = self.aggregate(
            artifacts=Count("artifact", distinct=True),
            versions=Count("pk"),
            size_bytes=_sum("size_bytes"),
            files=_sum("num_files"),
        )
        return {key: int(value) for key, value in found.items()}

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
        """What the contents take on this machine, each counted once."""
        return int(self._here().aggregate(total=_sum("size_bytes"))["total"])

    def referred_bytes(self) -> int:
        """What they would take if every version had its own."""
        here = None if _all_files_are_here() else Q(files__version__has_files=True)
        return int(self.aggregate(total=_sum("files__blob__size_bytes", filter=here))["total"])

    def _here(self) -> Self:
        if _all_files_are_here():
            return self.all()
        from .models import File

        held = File.objects.filter(blob=OuterRef("pk"), version__has_files=True)
        return self.filter(Exists(held))

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

    def known_to(self, user: Any, digests: Iterable[str]) -> set[str]:
        """Those of *digests* that a version has which *user* may see."""
        from .models import File, Version

        visible = Version.objects.visible_to(user)
        files = File.objects.filter(version__in=visible).order_by()
        wanted, found = list(digests), set[str]()
        for start in range(0, len(wanted), 1000):
            part = files.filter(blob__digest__in=wanted[start : start + 1000])
            found.update(part.values_list("blob__digest", flat=True))
        return found

    def ids(self, sizes: dict[str, int], *, really: Callable[[str], int | None]) -> dict[str, int]:
        """The key of each digest in *sizes*; rows that are missing are made, with the size that
        the content *really* has, where that is known: a manifest may say anything."""
        found = self._keys(sizes)
        missing = [digest for digest in sizes if digest not in found]
        self.bulk_create(
            [
                self.model(digest=digest, size_bytes=sizes[digest] if size is None else size)
                for digest, size in zip(missing, map(really, missing), strict=True)
            ],
            ignore_conflicts=True,
            batch_size=1000,
        )
        return found | self._keys(missing)

    def _keys(self, digests: Iterable[str]) -> dict[str, int]:
        wanted, found = list(digests), dict[str, int]()
        for start in range(0, len(wanted), 1000):
            part = self.filter(digest__in=wanted[start : start + 1000])
            found |= dict(part.values_list("digest", "pk"))
        return found


def _all_files_are_here() -> bool:
    """As in every store but one that is synced with a host on demand: then nothing is joined."""
    from .models import Version

    return not Version.objects.filter(has_files=False).exists()


class UsageQuerySet(AccessQuerySet["Usage"]):
    def of(self, key: VersionKey) -> Self:
        return self.filter(name=key.name, type=key.type, number=key.version)

    def keys(self) -> list[VersionKey]:
        rows = self.order_by("pk").values_list("name", "type", "number")
        return [VersionKey(*row) for row in rows]
