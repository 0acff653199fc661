"""Runs and projects in the Django admin: one more client of ``runs.actions``.

Logged data is read-only; only annotations can be edited. Lists count, filter and page without
reading every row, so that 100,000 runs open as fast as ten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from core.access import Right
from core.admin_lists import MAX_NAMED_ROWS, LongListAdmin, ReadOnlyAdmin, confirmed_keys
from core.paginator import NearbyPaginator

from . import actions, display
from .models import Project, Run, Tag
from .querysets import RunQuerySet

MEASURED = 200
"""The most runs whose folders a confirmation measures if the action frees no space."""


# -- filters -------------------------------------------------------------------------------------


class ProjectFilter(admin.SimpleListFilter):
    title = _("project")
    parameter_name = "project"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple]:
        names = Project.objects.visible_to(request.user).values_list("name", flat=True)
        return [(name, name) for name in names[:200]]

    def queryset(self, request: HttpRequest, queryset: RunQuerySet) -> RunQuerySet:
        return queryset.filter(project__name=self.value()) if self.value() else queryset


class ExperimentFilter(admin.SimpleListFilter):
    """A filter by experiment within a project, whose names an index has."""

    title = _("experiment")
    parameter_name = "experiment"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple]:
        project = request.GET.get(ProjectFilter.parameter_name)
        if not project:
            return []
        runs = Run.objects.visible_to(request.user).filter(project__name=project)
        names = runs.exclude(name=None).order_by("name").values_list("name", flat=True).distinct()
        return [(name, name) for name in names[:100]]

    def queryset(self, request: HttpRequest, queryset: RunQuerySet) -> RunQuerySet:
        return queryset.filter(name=self.value()) if self.value() else queryset


class StatusFilter(admin.SimpleListFilter):
    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple]:
        return Run.Status.choices

    def queryset(self, request: HttpRequest, queryset: RunQuerySet) -> RunQuerySet:
        return queryset.filter(status=self.value()) if self.value() else queryset


class TagFilter(admin.SimpleListFilter):
    """A filter by tags of the newest runs: listing all tags would read every row."""

    title = _("tag")
    parameter_name = "tag"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple]:
        newest = Run.objects.visible_to(request.user).active().order_by("-created_at", "-pk")
        keys = Tag.objects.filter(run__in=newest.values("pk")[:500]).values_list("key", flat=True)
        return [(key, key) for key in sorted(set(keys))[:50]]

    def queryset(self, request: HttpRequest, queryset: RunQuerySet) -> RunQuerySet:
        return queryset.filter(tags__key=self.value()) if self.value() else queryset


# -- changing many runs --------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """An action on runs, with the texts of its confirmation page."""

    name: str
    question: Callable[[int], str]
    consequence: Any
    button: Any
    act: Callable[[list[Run], Any], actions.Outcome | actions.Purged]
    done: Callable[[int], str]
    right: Right = Right.CHANGE

    @property
    def is_final(self) -> bool:
        return self.right is Right.PURGE


SOFT_DELETE = Change(
    name="soft_delete",
    question=lambda n: ngettext(
        "Move %d run to the recycle bin?", "Move %d runs to the recycle bin?", n
    ),
    consequence=_("They leave every list, and can be restored at any time."),
    button=_("Move to the recycle bin"),
    act=lambda runs, by: actions.soft_delete_runs(runs, by=by),
    done=lambda n: ngettext(
        "%d run moved to the recycle bin.", "%d runs moved to the recycle bin.", n
    ),
)
RESTORE = Change(
    name="restore",
    question=lambda n: ngettext("Restore %d run?", "Restore %d runs?", n),
    consequence=_("They come back to every list, as they were."),
    button=_("Restore"),
    act=lambda runs, by: actions.restore_runs(runs, by=by),
    done=lambda n: ngettext("%d run restored.", "%d runs restored.", n),
)
PURGE = Change(
    name="purge",
    question=lambda n: ngettext("Delete %d run for good?", "Delete %d runs for good?", n),
    consequence=_("Their folders, logs, metrics and images are removed. This cannot be undone."),
    button=_("Delete for good"),
    act=lambda runs, by: actions.purge_runs(runs, by=by),
    done=lambda n: ngettext("%d run deleted for good.", "%d runs deleted for good.", n),
    right=Right.PURGE,
)


class RunList(ChangeList):
    """The changelist of the runs inside or outside the recycle bin."""

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        self.title = _("Recycle bin") if self.model_admin.in_bin else _("Runs")

    def get_queryset(self, request: HttpRequest, **options: Any) -> RunQuerySet:
        runs = super().get_queryset(request, **options)
        return runs.deleted() if self.model_admin.in_bin else runs.active()

    def date_edges(self) -> tuple[datetime | None, datetime | None]:
        """Return the dates of the first and the last listed run, by two lookups in an index."""
        times = self.queryset.exclude(created_at=None).values_list("created_at", flat=True)
        return times.order_by("created_at").first(), times.order_by("-created_at").first()


class RunListAdmin(LongListAdmin):
    """A list of runs and actions on them: ``RunAdmin`` and its ``RecycleBinAdmin``."""

    in_bin: ClassVar[bool]
    change_list_template = "admin/runs/run/change_list.html"
    list_select_related = ("project",)
    search_fields = ("run_id",)  # shows the box; ``get_search_results`` does the search
    search_help_text = _("Words in run id, experiment, project, notes or tags")
    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    list_filter: ClassVar[Any] = (
        StatusFilter,
        ProjectFilter,
        ExperimentFilter,
        TagFilter,
        "created_at",
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("tags")

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        return RunList

    def get_search_results(
        self, request: HttpRequest, queryset: RunQuerySet, search_term: str
    ) -> tuple[RunQuerySet, bool]:
        return queryset.full_text(search_term), False

    def get_paginator(
        self, request: HttpRequest, queryset: RunQuerySet, per_page: int, *args: Any, **options: Any
    ) -> NearbyPaginator:
        return NearbyPaginator(queryset, per_page, current=request.GET.get("p", 1))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {"in_bin": self.in_bin, **(extra_context or {})}
        return super().changelist_view(request, context)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        offered = super().get_actions(request)
        offered.pop("delete_selected", None)  # it would first collect every row of every run
        return offered

    # -- columns

    @admin.display(description=_("project"), ordering="project__name")
    def project_name(self, run: Run) -> str:
        return run.project.name if run.project else display.NOTHING

    @admin.display(description=_("experiment"), ordering="name")
    def experiment(self, run: Run) -> str:
        return run.name or display.NOTHING

    @admin.display(description=_("status"), ordering="status")
    def colored_status(self, run: Run) -> SafeString:
        return display.status(run.status)

    @admin.display(description=_("created"), ordering="created_at")
    def created(self, run: Run) -> str:
        return display.moment(run.created_at)

    # Not named like the model's field, or Django would show that field: a bare number.
    @admin.display(description=_("duration"), ordering="duration")
    def took(self, run: Run) -> str:
        return display.duration(run)

    @admin.display(description=_("best metric"), ordering="best_metric_value")
    def best_metric(self, run: Run) -> SafeString | str:
        if run.best_metric_value is None:
            return display.NOTHING
        return format_html(
            '<span class="quiet">{}</span> {}',
            run.best_metric_name,
            display.number(run.best_metric_value),
        )

    @admin.display(description=_("tags"))
    def tag_list(self, run: Run) -> SafeString:
        tags = [(tag.key,) for tag in run.tags.all()]
        return format_html_join(" ", '<bdi class="tag">{}</bdi>', tags)

    # -- actions

    @admin.action(permissions=["delete"], description=_("Move to the recycle bin"))
    def soft_delete(self, request: HttpRequest, queryset: RunQuerySet) -> HttpResponse | None:
        return self.confirmed(request, queryset, SOFT_DELETE)

    @admin.action(permissions=["change"], description=_("Restore"))
    def restore(self, request: HttpRequest, queryset: RunQuerySet) -> HttpResponse | None:
        return self.confirmed(request, queryset, RESTORE)

    @admin.action(permissions=["purge"], description=_("Delete for good"))
    def purge(self, request: HttpRequest, queryset: RunQuerySet) -> HttpResponse | None:
        return self.confirmed(request, queryset, PURGE)

    def confirmed(
        self, request: HttpRequest, queryset: RunQuerySet, change: Change
    ) -> HttpResponse | None:
        """Ask first; then make the *change* to exactly the runs that the question named.

        The page sends back their keys: a run that joined the list meanwhile is not touched.
        """
        queryset = self.rows_with_right(request, queryset, change.right)
        if (keys := confirmed_keys(request)) is not None:
            self._make(request, queryset.in_bulk_list(keys), change)
            return None
        runs = list(queryset.order_by("-created_at", "-pk"))
        if not runs:
            self.message_user(request, _("There is no such run any more."), messages.WARNING)
            return None
        is_measured = change.is_final or (change is SOFT_DELETE and len(runs) <= MEASURED)
        context = {
            **self.question(request, change, change.question(len(runs)) % len(runs), runs),
            "runs": runs[:MAX_NAMED_ROWS],
            "running": sum(run.status == Run.Status.RUNNING for run in runs),
            "bytes": actions.size_of_runs(runs) if is_measured else None,
            "in_bin": self.in_bin,
        }
        return render(request, "admin/runs/run/confirm.html", context)

    def _make(self, request: HttpRequest, runs: list[Run], change: Change) -> None:
        result = change.act(runs, request.user)
        if isinstance(result, actions.Purged):
            done, outcome = result.count, result.refusals
        else:
            done, outcome = list(result.values()).count(None), result
        if done:
            text = change.done(done) % done
            if isinstance(result, actions.Purged):
                text += " " + _("%s freed.") % filesizeformat(result.bytes)
            self.message_user(request, text, messages.SUCCESS)
        failures = [(run_id, error) for run_id, error in outcome.items() if error is not None]
        for run_id, error in failures[:5]:
            error = error or _("its folder could not be written")
            self.message_user(request, f"{run_id}: {error}", messages.ERROR)


class RecycleBinAdmin(RunListAdmin):
    """The runs in the recycle bin; ``RunAdmin`` gives it an address."""

    in_bin = True
    actions = ("restore", "purge")
    list_display = (
        "run_id",
        "project_name",
        "experiment",
        "status_when_deleted",
        "deleted",
        "reason",
        "created",
    )
    sortable_by = ("run_id", "deleted", "created")
    list_select_related = ("project",)
    list_filter = (ProjectFilter, ExperimentFilter, TagFilter, "deleted_at")
    date_hierarchy = None
    ordering = ("-deleted_at",)

    @admin.display(description=_("deleted"), ordering="deleted_at")
    def deleted(self, run: Run) -> SafeString | str:
        return display.moment(run.deleted_at)

    @admin.display(description=_("reason"))
    def reason(self, run: Run) -> str:
        by = f" ({run.deleted_by})" if run.deleted_by else ""
        return display.reason(run.delete_reason) + by

    @admin.display(description=_("status"))
    def status_when_deleted(self, run: Run) -> SafeString:
        return display.status(run.original_status or run.status)


class RunForm(forms.ModelForm):
    """A run's tags and notes; everything else was logged and cannot be edited."""

    tags = forms.CharField(
        label=_("Tags"),
        required=False,
        help_text=_("Separated by commas."),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )

    class Meta:
        model = Run
        fields: ClassVar[Any] = ["notes"]
        widgets: ClassVar[Any] = {
            "notes": forms.Textarea(attrs={"class": "vLargeTextField", "rows": 4})
        }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        keys = self.instance.tags.order_by("key").values_list("key", flat=True)
        self.fields["tags"].initial = ", ".join(keys)

    def clean_tags(self) -> str:
        keys = [key.strip() for key in self.cleaned_data["tags"].split(",")]
        if too_long := next((key for key in keys if len(key) > 255), None):
            raise forms.ValidationError(
                _("A tag has at most 255 characters; “%s…” has more.") % too_long[:40]
            )
        return ", ".join(filter(None, keys))


@admin.register(Run)
class RunAdmin(RunListAdmin):
    in_bin = False
    form = RunForm
    actions = ("soft_delete",)
    list_display = (
        "run_id",
        "project_name",
        "experiment",
        "colored_status",
        "created",
        "took",
        "best_metric",
        "tag_list",
    )
    sortable_by = ("run_id", "experiment", "colored_status", "created", "took", "best_metric")

    def get_urls(self) -> list[URLPattern]:
        recycle_bin = RecycleBinAdmin(self.model, self.admin_site)
        view = self.admin_site.admin_view(recycle_bin.changelist_view)
        return [path("recycle-bin/", view, name="runs_run_recycle_bin"), *super().get_urls()]

    def get_fields(self, request: HttpRequest, obj: Run | None = None) -> tuple[str, ...]:
        """Offer no fields to users who may only read: the page shows the values anyway."""
        return ("tags", "notes") if self.has_change_permission(request, obj) else ()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        context = {"show_delete": False, "show_save_and_continue": False, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        context |= {"title": context["original"], "subtitle": None}
        return super().render_change_form(request, context, *args, **options)

    def save_model(self, request: HttpRequest, run: Run, form: RunForm, change: bool) -> None:
        if "tags" in form.changed_data:
            actions.set_tags(run, form.cleaned_data["tags"].split(","), by=request.user)
        if "notes" in form.changed_data:
            actions.set_notes(
                run, form.cleaned_data["notes"].replace("\r\n", "\n"), by=request.user
            )

    # -- deleting one run: Django's page would first collect all its rows

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        run = self.get_object(request, object_id)
        if run is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        change = PURGE if run.is_deleted else SOFT_DELETE
        may = self.has_purge_permission if change.is_final else self.has_delete_permission
        if not may(request, run):
            raise PermissionDenied
        runs = self.get_queryset(request).filter(pk=run.pk)
        return self.confirmed(request, runs, change) or redirect("admin:runs_run_changelist")

    def delete_model(self, request: HttpRequest, run: Run) -> None:
        self.delete_queryset(request, self.get_queryset(request).filter(pk=run.pk))

    def delete_queryset(self, request: HttpRequest, queryset: RunQuerySet) -> None:
        """Move the runs to the recycle bin, from where they can be purged."""
        changeable = self.rows_with_right(request, queryset, Right.CHANGE)
        actions.soft_delete_runs(changeable, by=request.user)


@admin.register(Project)
class ProjectAdmin(ReadOnlyAdmin):
    list_display = ("name", "run_count", "deleted_count")
    list_display_links = None
    search_fields = ("name",)
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).with_run_counts()

    def has_change_permission(self, request: HttpRequest, obj: Project | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Project | None = None) -> bool:
        return False

    @admin.display(description=_("runs"), ordering="active_runs")
    def run_count(self, project: Project) -> SafeString:
        return _runs_link("admin:runs_run_changelist", project, project.active_runs)

    @admin.display(description=_("in the recycle bin"), ordering="deleted_runs")
    def deleted_count(self, project: Project) -> SafeString:
        return _runs_link("admin:runs_run_recycle_bin", project, project.deleted_runs)


def _runs_link(view: str, project: Project, count: int) -> SafeString:
    url = reverse(view, query={ProjectFilter.parameter_name: project.name})
    return format_html('<a href="{}">{}</a>', url, count)
