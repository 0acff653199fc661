"""Artifacts in the Django admin: one more client of ``artifacts.actions``.

Saved contents are read-only; aliases, descriptions, metadata and tags can be edited.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext, pgettext

from core.access import Right
from core.admin_lists import MAX_NAMED_ROWS, LongListAdmin, confirmed_keys
from runicorn.artifacts.folders import LATEST
from runicorn.artifacts.names import check_alias
from runicorn.artifacts.validation import check_metadata, check_tags
from runs import display

from . import actions, index
from .models import Artifact, Blob, Usage, Version
from .querysets import VersionQuerySet

MAX_NAMED_FILES = 200
"""The number of files and usages that a version's page names one by one."""


class FolderAdmin(LongListAdmin):
    """A list of rows that come from the folder: none can be removed by hand either."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


# -- artifacts -----------------------------------------------------------------------------------


class TypeFilter(admin.SimpleListFilter):
    title = _("type")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple]:
        kinds = (
            Artifact.objects.visible_to(request.user)
            .order_by("type")
            .values_list("type", flat=True)
        )
        return [(kind, kind) for kind in kinds.distinct()[:50]]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        field = "artifact__type" if queryset.model is Version else "type"
        return queryset.filter(**{field: self.value()}) if self.value() else queryset


class ArtifactForm(forms.ModelForm):
    """The artifact's aliases, as ``name=version``; ``latest`` moves by itself."""

    aliases = forms.CharField(
        label=_("Aliases"),
        required=False,
        help_text=_("Such as “best=3, production=2”. “latest” always names the newest version."),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )

    class Meta:
        model = Artifact
        fields: ClassVar[Any] = []

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        aliases = self.instance.aliases.exclude(name=LATEST).select_related("version")
        self.fields["aliases"].initial = ", ".join(f"{a.name}={a.version.number}" for a in aliases)

    def clean_aliases(self) -> dict[str, int]:
        numbers_by_alias: dict[str, int] = {}
        numbers = set(self.instance.versions.values_list("number", flat=True))
        for pair in filter(None, (p.strip() for p in self.cleaned_data["aliases"].split(","))):
            name, _equals, number = (word.strip() for word in pair.partition("="))
            number = number.removeprefix("v")
            try:
                is_valid = check_alias(name) != LATEST and int(number) in numbers
            except ValueError:
                is_valid = False
            if not is_valid:
                raise forms.ValidationError(
                    _("“%s” does not name a version: write an alias, “=” and a number.") % pair
                )
            numbers_by_alias[name] = int(number)
        return numbers_by_alias


@admin.register(Artifact)
class ArtifactAdmin(FolderAdmin):
    form = ArtifactForm
    list_display = ("name", "type", "version_count", "latest", "size", "alias_list", "updated")
    list_filter = (TypeFilter,)
    search_fields = ("name",)
    ordering = ("-updated_time",)
    change_list_template = "admin/artifacts/artifact/change_list.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).with_versions().prefetch_related("aliases__version")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        return queryset.quick_search(search_term), False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        index.refresh_all()
        blobs = Blob.objects.visible_to(request.user)
        stored, referred = blobs.stored_bytes(), blobs.referred_bytes()
        context = {"stored": stored, "referred": referred, "saved": max(0, referred - stored)}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def get_fields(self, request: HttpRequest, obj: Artifact | None = None) -> tuple[str, ...]:
        fields = ("type", "directory", "versions_link")
        return (*fields, "aliases") if self.has_change_permission(request, obj) else fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("type", "directory", "versions_link")

    def save_model(
        self, request: HttpRequest, artifact: Artifact, form: ArtifactForm, change: bool
    ) -> None:
        if "aliases" not in form.changed_data:
            return
        numbers_by_alias: dict[str, int] = form.cleaned_data["aliases"]
        current = {a.name: a.version.number for a in artifact.aliases.select_related("version")}
        for name in current.keys() - numbers_by_alias.keys() - {LATEST}:
            actions.remove_alias(artifact, name, by=request.user)
        for name, number in numbers_by_alias.items():
            if current.get(name) != number:
                version = artifact.versions.get(number=number)
                actions.set_alias(version, name, by=request.user)

    @admin.display(description=_("versions"), ordering="num_versions")
    def version_count(self, artifact: Artifact) -> SafeString:
        return _versions_link(artifact, artifact.num_versions)

    @admin.display(description=_("versions"))
    def versions_link(self, artifact: Artifact) -> SafeString:
        return _versions_link(artifact, artifact.versions.count())

    @admin.display(description=_("latest"), ordering="latest_version")
    def latest(self, artifact: Artifact) -> str:
        return f"v{artifact.latest_version}"

    @admin.display(description=_("size"), ordering="latest_size")
    def size(self, artifact: Artifact) -> str:
        return filesizeformat(artifact.latest_size)

    @admin.display(description=_("aliases"))
    def alias_list(self, artifact: Artifact) -> SafeString:
        named = [(a.name, a.version.number) for a in artifact.aliases.all()]
        return format_html_join(" ", '<span class="tag"><bdi>{}</bdi> → v{}</span>', named)

    @admin.display(description=_("updated"), ordering="updated_time")
    def updated(self, artifact: Artifact) -> SafeString | str:
        return display.moment(artifact.updated_at)


def _versions_link(artifact: Artifact, count: int) -> SafeString:
    url = reverse("admin:artifacts_version_changelist", query={"artifact__id": artifact.pk})
    return format_html('<a href="{}">{}</a>', url, count)


# -- versions ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """An action on versions, with the texts of its confirmation page."""

    name: str
    question: Callable[[int], str]
    consequence: Any
    button: Any
    act: Callable[[list[Version], Any], str]
    right: Right = Right.CHANGE

    @property
    def is_final(self) -> bool:
        return self.right is Right.PURGE


def _soft_delete(versions: list[Version], by: Any) -> str:
    done = actions.soft_delete_versions(versions, by=by)
    return ngettext("%d version deleted.", "%d versions deleted.", done) % done


def _restore(versions: list[Version], by: Any) -> str:
    done = actions.restore_versions(versions, by=by)
    return ngettext("%d version restored.", "%d versions restored.", done) % done


def _purge(versions: list[Version], by: Any) -> str:
    purged = actions.purge_versions(versions, by=by)
    text = ngettext("%d version deleted for good.", "%d versions deleted for good.", purged.count)
    return f"{text % purged.count} {_('%s freed.') % filesizeformat(purged.bytes)}"


SOFT_DELETE = Change(
    name="soft_delete",
    question=lambda n: ngettext("Delete %d version?", "Delete %d versions?", n),
    consequence=_("They are marked as deleted, can still be used, and can be restored."),
    button=_("Delete"),
    act=_soft_delete,
)
RESTORE = Change(
    name="restore",
    question=lambda n: ngettext("Restore %d version?", "Restore %d versions?", n),
    consequence=_("They are no longer marked as deleted."),
    button=_("Restore"),
    act=_restore,
)
PURGE = Change(
    name="purge",
    question=lambda n: ngettext("Delete %d version for good?", "Delete %d versions for good?", n),
    consequence=_("Their files are removed, but what other versions share. There is no way back."),
    button=_("Delete for good"),
    act=_purge,
    right=Right.PURGE,
)


class DeletedFilter(admin.SimpleListFilter):
    title = _("deleted")
    parameter_name = "deleted"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple]:
        return [("no", _("No")), ("yes", _("Yes"))]

    def queryset(self, request: HttpRequest, queryset: VersionQuerySet) -> VersionQuerySet:
        if self.value() == "yes":
            return queryset.deleted()
        return queryset.active() if self.value() == "no" else queryset


class ReadableEncoder(json.JSONEncoder):
    """A JSON encoder whose output people can read."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "indent": 2, "ensure_ascii": False})


class VersionForm(forms.ModelForm):
    tags = forms.CharField(
        label=_("Tags"),
        required=False,
        help_text=_("Separated by commas."),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )

    metadata = forms.JSONField(
        label=_("Metadata"),
        required=False,
        help_text=_("An object in JSON. What it was stays in the history."),
        encoder=ReadableEncoder,
        widget=forms.Textarea(attrs={"class": "vLargeTextField", "rows": 8}),
    )

    class Meta:
        model = Version
        fields: ClassVar[Any] = ["description"]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        metadata = self.instance.metadata()
        self.fields["tags"].initial = ", ".join(metadata.tags)
        self.fields["metadata"].initial = metadata.metadata

    def clean_tags(self) -> list[str]:
        tags = [tag.strip() for tag in self.cleaned_data["tags"].split(",") if tag.strip()]
        try:
            return check_tags(tags)
        except ValueError:
            too_long = next(tag for tag in tags if len(tag) > 255)
            raise forms.ValidationError(
                _("A tag has at most 255 characters; “%s…” has more.") % too_long[:40]
            ) from None

    def clean_metadata(self) -> dict[str, Any]:
        metadata = self.cleaned_data["metadata"]
        if metadata is None:
            return {}
        try:
            checked = check_metadata(metadata)
            json.dumps(checked, allow_nan=False)
        except ValueError:  # nested too deep, NaN or infinite
            raise forms.ValidationError(
                _("Metadata is an object in JSON, with numbers that are finite.")
            ) from None
        return checked


@admin.register(Version)
class VersionAdmin(FolderAdmin):
    form = VersionForm
    actions = ("soft_delete", "restore", "purge")
    list_display = ("title", "type", "shown_status", "stage", "size", "num_files", "run", "created")
    list_select_related = ("artifact",)
    list_filter = (DeletedFilter, TypeFilter, "stage")
    search_fields = ("artifact__name", "description", "created_by_run")
    ordering = ("-created_time",)
    facts = (
        *("title", "type", "shown_status", "stage", "created", "run", "size", "num_files"),
        *("metadata_text", "file_list", "reference_list", "usage_list", "history_list"),
    )

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        return lookup == "artifact__id" or super().lookup_allowed(lookup, value, request)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).select_related("artifact")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        if not self.has_change_permission(request, obj):
            return self.facts
        facts = [fact for fact in self.facts if fact != "metadata_text"]
        return (*facts[:2], "description", "tags", "metadata", *facts[2:])

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.facts

    def save_model(
        self, request: HttpRequest, version: Version, form: VersionForm, change: bool
    ) -> None:
        edited = {key: form.cleaned_data[key] for key in form.changed_data}
        if edited:
            actions.edit_version(version, edited, by=request.user)

    def view_on_site(self, version: Version) -> str:
        artifact = version.artifact
        address = [artifact.type, artifact.name, version.number]
        return reverse("artifact-version-page", args=address)

    # -- columns and fields

    @admin.display(description=_("version"), ordering="artifact__name")
    def title(self, version: Version) -> str:
        return str(version)

    @admin.display(description=_("type"), ordering="artifact__type")
    def type(self, version: Version) -> str:
        return version.artifact.type

    @admin.display(description=_("status"))
    def shown_status(self, version: Version) -> str:
        labels = {
            "ready": _("ready"),
            "deleted": pgettext("version", "deleted"),
            "corrupted": _("corrupted"),
        }
        return str(labels.get(version.shown_status, version.shown_status))

    @admin.display(description=_("size"), ordering="size_bytes")
    def size(self, version: Version) -> str:
        return filesizeformat(version.size_bytes)

    @admin.display(description=_("created by run"), ordering="created_by_run")
    def run(self, version: Version) -> SafeString | str:
        if not version.created_by_run:
            return display.NOTHING
        url = display.run_page(version.created_by_run)
        if url is None:
            return version.created_by_run
        return format_html('<a href="{}">{}</a>', url, version.created_by_run)

    @admin.display(description=_("created"), ordering="created_time")
    def created(self, version: Version) -> SafeString | str:
        return display.moment(version.created_at)

    @admin.display(description=_("metadata"))
    def metadata_text(self, version: Version) -> SafeString:
        text = json.dumps(version.metadata().metadata, indent=2, ensure_ascii=False)
        return format_html("<pre>{}</pre>", text)

    @admin.display(description=_("files"))
    def file_list(self, version: Version) -> SafeString:
        entries = version.files.select_related("blob").order_by("path")[:MAX_NAMED_FILES]
        rows = [
            (entry.path, filesizeformat(entry.blob.size_bytes), entry.blob.digest)
            for entry in entries
        ]
        return _table(rows, version.num_files)

    @admin.display(description=_("references"))
    def reference_list(self, version: Version) -> SafeString:
        entries = version.references.order_by("pk")[:MAX_NAMED_FILES]
        rows = [(r.uri, filesizeformat(r.size_bytes or 0), r.checksum or "") for r in entries]
        return _table(rows, version.num_references)

    @admin.display(description=_("usage"))
    def usage_list(self, version: Version) -> SafeString:
        usages = Usage.objects.filter(
            name=version.artifact.name, type=version.artifact.type, number=version.number
        )
        rows = [
            (usage.get_kind_display(), usage.run.run_id, usage.run.name or "")
            for usage in usages.select_related("run").order_by("-pk")[:MAX_NAMED_FILES]
        ]
        return _table(rows, usages.count())

    @admin.display(description=_("history"))
    def history_list(self, version: Version) -> SafeString:
        history = version.kept_changes().get("history")
        entries = [e for e in history if isinstance(e, dict)] if isinstance(history, list) else []
        rows = [
            (
                str(e.get("by", "")),
                str(e.get("field", "")),
                f"{_json(e.get('from'))} → {_json(e.get('to'))}",
            )
            for e in entries[-MAX_NAMED_FILES:]
        ]
        return _table(rows, len(entries))

    # -- actions

    @admin.action(permissions=["change"], description=_("Delete"))
    def soft_delete(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return self.confirmed(request, queryset, SOFT_DELETE)

    @admin.action(permissions=["change"], description=_("Restore"))
    def restore(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return self.confirmed(request, queryset, RESTORE)

    @admin.action(permissions=["purge"], description=_("Delete for good"))
    def purge(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return self.confirmed(request, queryset, PURGE)

    def confirmed(self, request: HttpRequest, queryset: Any, change: Change) -> HttpResponse | None:
        """Ask first; then make the *change* to exactly the versions that the question named."""
        queryset = self.rows_with_right(request, queryset, change.right)
        if (keys := confirmed_keys(request)) is not None:
            done = change.act(list(queryset.filter(pk__in=keys)), request.user)
            self.message_user(request, done, messages.SUCCESS)
            return None
        versions = list(queryset.order_by("artifact__name", "number"))
        title = change.question(len(versions)) % len(versions)
        context = {
            **self.question(request, change, title, versions),
            "versions": versions[:MAX_NAMED_ROWS],
            "bytes": Blob.objects.only_in(versions).stored_bytes() if change.is_final else None,
        }
        return render(request, "admin/artifacts/version/confirm.html", context)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Confirm the deletion of one version from its page, as the action does for many."""
        version = self.get_object(request, object_id)
        if version is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self.has_purge_permission(request, version):
            raise PermissionDenied
        change = PURGE if version.is_deleted else SOFT_DELETE
        queryset = self.get_queryset(request).filter(pk=version.pk)
        changelist = "admin:artifacts_version_changelist"
        return self.confirmed(request, queryset, change) or redirect(changelist)


def _table(rows: list[tuple], total: int) -> SafeString:
    if not rows:
        return format_html("{}", display.NOTHING)
    cells = format_html_join("", "<tr><td>{}</td><td>{}</td><td>{}</td></tr>", rows)
    remaining = total - len(rows)
    note = ngettext("and %d more", "and %d more", remaining) % remaining if remaining > 0 else ""
    return format_html("<table>{}</table>{}", cells, note)


@admin.register(Blob)
class BlobAdmin(FolderAdmin):
    """The contents, with their sizes and the numbers of files that share them."""

    list_display = ("digest", "size", "file_count")
    list_display_links = None
    search_fields = ("digest__startswith",)
    ordering = ("-size_bytes",)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).annotate(file_count=Count("files"))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description=_("size"), ordering="size_bytes")
    def size(self, blob: Blob) -> str:
        return filesizeformat(blob.size_bytes)

    @admin.display(description=_("files"), ordering="file_count")
    def file_count(self, blob: Any) -> int:
        return int(blob.file_count)


@admin.register(Usage)
class UsageAdmin(FolderAdmin):
    """The records of runs that created or used versions."""

    list_display = ("kind", "name", "type", "number", "run_link")
    list_display_links = None
    list_select_related = ("run",)
    list_filter = ("kind",)
    search_fields = ("name", "run__run_id")
    ordering = ("-pk",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description=_("run"))
    def run_link(self, usage: Usage) -> SafeString:
        url = reverse("run", args=[usage.run.run_id])
        return format_html('<a href="{}">{}</a>', url, usage.run.run_id)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
