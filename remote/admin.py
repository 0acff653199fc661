"""Saved hosts, sessions and sync jobs in the admin: one more client of ``actions``.

People start, stop and retry here instead of editing rows, so the lists are pages of our own; they
renew themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from runicorn import config, credentials
from runs import display

from . import actions
from .exceptions import RemoteError
from .models import Host, Session, SyncJob, Viewer
from .owner.asking import rows


class Button(NamedTuple):
    label: Any
    verb: str = ""
    name: str = "id"
    url: str = ""
    """Where it leads; without one, to the list itself."""


class Row(NamedTuple):
    id: str
    cells: list[Any]
    buttons: list[Button]
    trouble: str | None = None


class LiveAdmin(admin.ModelAdmin):
    """A list of what is there now, with buttons; and a form to start one more."""

    class Media:
        css: ClassVar = {"all": ["runicorn/parts.css"]}
        js: ClassVar = [forms.Script("runicorn/runicorn.js", defer=True)]

    form_class: type[forms.Form]
    headers: ClassVar[tuple[Any, ...]]
    start_label: Any
    verbs: ClassVar[dict[str, Callable[..., Any]]]
    """By name, functions of ``actions``."""

    def rows(self) -> list[Row]:
        raise NotImplementedError

    def start(self, data: dict[str, Any], *, by: Any) -> None:
        """Make one as the form says. Raises RemoteError, ConfigError or CredentialsError."""
        raise NotImplementedError

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._act(request)
        context = {
            **self.admin_site.each_context(request),
            "title": capfirst(self.opts.verbose_name_plural),
            "opts": self.opts,
            "media": self.media,
            "headers": self.headers,
            "rows": self.rows(),
            "start_label": self.start_label if self.has_add_permission(request) else None,
        }
        template = "rows" if "live" in request.GET else "list"
        return render(request, f"admin/remote/{template}.html", context)

    def _act(self, request: HttpRequest) -> HttpResponse:
        act = self.verbs.get(request.GET.get("verb", ""))
        if act is None or not self.has_change_permission(request):
            raise PermissionDenied
        self._report(request, lambda: act(request.POST.get("id", ""), by=request.user))
        return redirect(f"admin:remote_{self.opts.model_name}_changelist")

    def _report(self, request: HttpRequest, act: Callable[[], Any]) -> bool:
        try:
            act()
        except (RemoteError, config.ConfigError, credentials.CredentialsError) as error:
            self.message_user(request, str(error), messages.ERROR)
            return False
        return True

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        return self._form(request, self.start_label, {})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        raise Http404

    delete_view = history_view = change_view  # type: ignore[assignment]

    def _form(self, request: HttpRequest, title: Any, initial: dict[str, Any]) -> HttpResponse:
        form = self.form_class(request.POST or None, initial=initial)
        if (
            request.method == "POST"
            and form.is_valid()
            and self._report(
                request, lambda: self.start({**initial, **form.cleaned_data}, by=request.user)
            )
        ):
            return redirect(f"admin:remote_{self.opts.model_name}_changelist")
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "media": self.media,
            "form": form,
        }
        return render(request, "admin/remote/form.html", context)


# -- saved hosts -----------------------------------------------------------------------------------


def _secret(label: Any, widget: type[forms.Widget] = forms.PasswordInput) -> forms.CharField:
    """Make a field that is written and never shown: the list says which secrets are kept."""
    return forms.CharField(
        label=label, required=False, strip=False, widget=widget({"autocomplete": "new-password"})
    )


class HostForm(forms.Form):
    name = forms.CharField(label=_("Name"), required=False, max_length=100)
    host = forms.CharField(label=_("Host"), max_length=255)
    port = forms.IntegerField(label=_("Port"), initial=22, min_value=1, max_value=65535)
    username = forms.CharField(label=_("User"), max_length=255)
    auth_method = forms.ChoiceField(
        label=_("Log in with"),
        choices=[("password", _("a password")), ("key", _("a key")), ("agent", _("the agent"))],
    )
    private_key_path = forms.CharField(label=_("Key file on this machine"), required=False)
    remember_password = forms.BooleanField(
        label=_("Keep the secrets"),
        required=False,
        help_text=_("Encrypted. What is left empty below stays as it is kept."),
    )
    password = _secret(_("Password"))
    private_key = _secret(_("Private key"), forms.Textarea)
    passphrase = _secret(_("Passphrase of the key"))

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["private_key"].widget.attrs |= {"rows": 4, "spellcheck": "false"}


@admin.register(Host)
class HostAdmin(LiveAdmin):
    form_class = HostForm
    start_label = _("Save a host")
    headers = (_("Name"), _("Host"), _("User"), _("Log in with"), _("Secrets kept"))
    verbs: ClassVar = {"forget": actions.remove_host}

    def rows(self) -> list[Row]:
        methods = dict(HostForm.base_fields["auth_method"].choices)  # type: ignore[attr-defined]
        return [
            Row(
                host["key"],
                [
                    format_html(
                        '<a href="{}">{}</a>',
                        reverse("admin:remote_host_change", args=[quote(host["key"])]),
                        host["name"] or host["host"],
                    ),
                    f"{host['host']}:{host['port']}",
                    host["username"],
                    methods.get(host["auth_method"], host["auth_method"]),
                    _("yes") if host["has_password"] or host["has_private_key"] else _("no"),
                ],
                [
                    Button(_("Connect"), name="saved", url=reverse("remote-page-connect")),
                    Button(_("Forget"), "forget"),
                ],
            )
            for host in config.ssh_connections()
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if not self.has_change_permission(request):
            raise PermissionDenied
        key = unquote(object_id)
        host = next((host for host in config.ssh_connections() if host["key"] == key), None)
        if host is None:
            raise Http404
        return self._form(request, host["name"] or host["host"], host)

    def start(self, data: dict[str, Any], *, by: Any) -> None:
        actions.save_host(data, instead_of=data.get("key"), by=by)


# -- sessions --------------------------------------------------------------------------------------


class StartForm(forms.Form):
    """A folder on a host that one is connected to."""

    connection = forms.ChoiceField(label=_("Connection"))
    folder = forms.RegexField(
        r"\A[^\x00-\x1f]+\Z",
        label=_("Folder there"),
        max_length=4096,
        widget=forms.TextInput({"placeholder": "~/experiments", "class": "vTextField"}),
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        sessions = rows(Session).filter(is_open=True)
        choices = [(session.id, session.id) for session in sessions]
        self.fields["connection"].choices = choices  # type: ignore[attr-defined]


@admin.register(Session)
class SessionAdmin(LiveAdmin):
    form_class = StartForm
    start_label = _("Open a viewer there")
    headers = (_("Host"), _("What"), _("Status"), _("Since"))
    verbs: ClassVar = {
        "disconnect": actions.disconnect_session,
        "stop": actions.stop_viewer,
        "retry": actions.restart_viewer,
    }

    def rows(self) -> list[Row]:
        connections = [_session_row(session) for session in rows(Session)]
        return connections + [_viewer_row(viewer) for viewer in Viewer.objects.all()]

    def start(self, data: dict[str, Any], *, by: Any) -> None:
        actions.start_viewer(data["folder"], connection_id=data["connection"], by=by)


def _session_row(session: Session) -> Row:
    status = _status("running", _("connected"))
    if not session.is_open:
        status = _status("interrupted", _("cut"))
    cells = [session.id, _("connection"), status, _time(session.connected_at)]
    return Row(session.id, cells, [Button(_("Disconnect"), "disconnect")], session.last_error)


def _viewer_row(viewer: Viewer) -> Row:
    link = format_html('<a href="{0}" target="_blank" rel="noopener">{0}</a>', viewer.url)
    what: Any = link if viewer.status == "running" else _("viewer")
    status = {
        "running": _status("running", _("running")),
        "connecting": _status("running", _("starting")),
    }.get(viewer.status, _status("failed" if viewer.last_error else "finished", _("ended")))
    buttons = [Button(_("Stop"), "stop")]
    if not viewer.is_active:
        buttons = [Button(_("Start again"), "retry"), Button(_("Remove"), "stop")]
    where = f"{viewer.connection_id}:{viewer.remote_root}"
    cells = [where, what, status, _time(viewer.started_at)]
    return Row(viewer.id, cells, buttons, viewer.last_error)


# -- sync jobs -------------------------------------------------------------------------------------


class SyncForm(StartForm):
    mode = forms.ChoiceField(
        label=_("Mode"), choices=[(actions.MIRROR, _("mirror")), (actions.SMART, _("on demand"))]
    )


@admin.register(SyncJob)
class SyncJobAdmin(LiveAdmin):
    form_class = SyncForm
    start_label = _("Start a sync")
    headers = (
        _("Host"),
        _("Mode"),
        _("Status"),
        _("Files"),
        _("Progress"),
        _("Speed"),
        _("Last sync"),
    )
    verbs: ClassVar = {"stop": actions.stop_sync, "retry": actions.retry_sync}

    def rows(self) -> list[Row]:
        return [_sync_row(job) for job in rows(SyncJob)]

    def start(self, data: dict[str, Any], *, by: Any) -> None:
        actions.start_sync(data["mode"], data["connection"], data["folder"], by=by)


def _sync_row(job: SyncJob) -> Row:
    progress = job.progress
    if job.status == "interrupted":
        status = _status("interrupted", _("interrupted"))
    elif job.status == "ended":
        status = _status("failed", _("ended"))
    elif job.last_error:
        status = _status("interrupted", _("with errors"))
    else:
        status = _status("running", _("running"))
    mode = dict(SyncForm.base_fields["mode"].choices)[job.mode]  # type: ignore[attr-defined]
    percent = "–"
    if progress["total_files"]:
        percent = f"{100 * progress['synced_files'] // progress['total_files']} %"
    cells = [
        f"{job.connection_id}:{job.remote_root}",
        mode,
        status,
        job.stats["copied_files"],
        percent,
        f"{filesizeformat(progress['bytes_per_second'])}/s",
        _time(job.last_sync_at),
    ]
    buttons = [Button(_("Retry"), "retry"), Button(_("Stop"), "stop")]
    return Row(job.id, cells, buttons, job.last_error)


def _status(name: str, label: Any) -> SafeString:
    return format_html('<span class="status" data-status="{}">{}</span>', name, label)


def _time(seconds: float | None) -> SafeString | str:
    return display.moment(datetime.fromtimestamp(int(seconds), UTC) if seconds else None)
