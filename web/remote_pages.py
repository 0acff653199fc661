"""The page of the remote hosts: connections, viewers, syncs, trusted keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from core.access import Right, may
from core.http.client_address import client_address
from core.http.conditional import html_response
from core.http.permissions import needs
from remote import actions
from remote.exceptions import HostKeyUnconfirmed, OwnerAway, QuestionTooOld, RemoteError
from remote.models import Session, SyncJob, Viewer
from remote.owner.asking import ask, rows
from remote.ssh import transport
from runicorn import config

from .run_pages import page


class LoginForm(forms.Form):
    """A host and the login there. Secrets are never shown again."""

    host = forms.RegexField(rf"\A{transport.HOST.pattern}\Z", max_length=255)
    port = forms.IntegerField(required=False, min_value=1, max_value=65535)
    username = forms.RegexField(
        rf"\A{transport.USERNAME.pattern}\Z", max_length=255, required=False
    )
    password = forms.CharField(required=False, strip=False)
    private_key_path = forms.CharField(required=False, max_length=4096)
    passphrase = forms.CharField(required=False, strip=False)
    use_agent = forms.BooleanField(required=False)
    name = forms.CharField(required=False, max_length=100)
    save = forms.BooleanField(required=False)
    remember_password = forms.BooleanField(required=False)

    def to_save(self) -> dict[str, Any] | None:
        """Return what is to be saved of a login that succeeds, beside its address."""
        data = self.cleaned_data
        if not data["save"]:
            return None
        method = "password" if data["password"] else "key" if data["private_key_path"] else "agent"
        names = ("name", "password", "private_key_path", "passphrase", "remember_password")
        return {**{name: data[name] for name in names}, "auth_method": method}


# -- reading ---------------------------------------------------------------------------------------


@needs(Right.SEE)
@require_safe
@page
def remote(request: HttpRequest) -> HttpResponseBase:
    return _show(request, LoginForm(initial={"use_agent": True}))


@needs(Right.SEE)
@require_safe
@page
def remote_fragment(request: HttpRequest) -> HttpResponseBase:
    html = render(request, "pages/remote_fragment.html", _activity()).content.decode()
    return html_response(request, html, lambda: html)


def _show(request: HttpRequest, form: LoginForm, status: int = 200) -> HttpResponse:
    aliases, keys = [], []
    try:
        keys = ask("list_host_keys")
        if may(request.user, Right.ADMINISTER):
            aliases = ask("list_aliases")
    except OwnerAway as error:
        messages.error(request, _explain(error))
    context = {
        **_activity(),
        "form": form,
        "is_refused": form.is_bound,
        "saved": config.ssh_connections(),
        "aliases": aliases,
        "known_hosts": keys,
    }
    return render(request, "pages/remote.html", context, status=status)


def _activity() -> dict[str, Any]:
    return {
        "connections": [
            {"session": session, "since": _at(session.connected_at)} for session in rows(Session)
        ],
        "viewers": [
            {"session": viewer, "since": _at(viewer.started_at), "until": _at(viewer.ended_at)}
            for viewer in Viewer.objects.all()
        ],
        "syncs": [
            {"mode": job.mode, "connection": job.connection_id, **job.describe()}
            for job in SyncJob.objects.all()
        ],
    }


def _at(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None


# -- logging in ------------------------------------------------------------------------------------


@needs(Right.CHANGE)
@require_POST
@page
def connect(request: HttpRequest) -> HttpResponseBase:
    if name := request.POST.get("saved"):
        return _finish(request, lambda: _connect(request, {"saved": name}), None)
    form = LoginForm(request.POST)
    if not form.is_valid():
        return _show(request, form, 400)
    return _finish(request, lambda: _connect(request, form.cleaned_data, form.to_save()), form)


Outcome = tuple[Session, str | None]


def _connect(
    request: HttpRequest, data: dict[str, Any], saved_as: dict[str, Any] | None = None
) -> Outcome:
    return actions.connect_or_ask(
        actions.VIEWER,
        actions.login_with(data, by=request.user),
        client=client_address(request),
        saved_as=saved_as,
        by=request.user,
    )


def _finish(
    request: HttpRequest, attempt: Callable[[], Outcome], form: LoginForm | None
) -> HttpResponseBase:
    try:
        session, save_error = attempt()
    except HostKeyUnconfirmed as error:
        context = {"key": error.host_key, "number": error.question}
        return render(request, "pages/host_key.html", context)
    except QuestionTooOld:
        messages.error(request, _("This question is too old: connect again."))
        return redirect("remote")
    except RemoteError as error:
        messages.error(request, _explain(error))
        return _show(request, form, error.status) if form else redirect("remote")
    if save_error:
        messages.error(request, save_error)
    messages.success(request, _("Connected to %s.") % session.id)
    return redirect("remote")


@needs(Right.CHANGE)
@require_POST
@page
def trust(request: HttpRequest) -> HttpResponseBase:
    """Trust the key that was shown, and repeat the login that waits for it."""
    question = request.POST.get("number", "")
    return _finish(request, lambda: actions.trust(question, by=request.user), None)


def _explain(error: RemoteError) -> str:
    explanations = {
        401: gettext_lazy("The host refused this login: %s"),
        408: gettext_lazy("The host did not answer in time: %s"),
        429: gettext_lazy("Too many refused logins: wait a minute. (%s)"),
    }
    text = explanations.get(error.status)
    return str(text) % error if text else str(error)


# -- changing --------------------------------------------------------------------------------------


@needs(Right.CHANGE)
@require_POST
@page
def change(request: HttpRequest, verb: str) -> HttpResponseBase:
    """Apply the change *verb* of CHANGES to the object that ``id`` names."""
    try:
        CHANGES[verb](request, request.POST.get("id", ""), by=request.user)
    except RemoteError as error:
        messages.error(request, _explain(error))
    return redirect("remote")


def _start_viewer(request: HttpRequest, identifier: str, *, by: Any) -> None:
    viewer = actions.start_viewer(_folder(request), connection_id=identifier, by=by)
    messages.success(request, _("The viewer is ready at %s.") % viewer.url)


def _start_sync(mode: str, request: HttpRequest, identifier: str, *, by: Any) -> None:
    actions.start_sync(mode, identifier, _folder(request), by=by)


def _folder(request: HttpRequest) -> str:
    folder = request.POST.get("folder", "").strip()
    if not folder or any(ord(c) < 32 for c in folder):
        raise RemoteError(_("Say which folder of the host: the storage folder of its runs."))
    return folder


def _forget_key(request: HttpRequest, identifier: str, *, by: Any) -> None:
    words = identifier.split()
    if len(words) == 3 and words[1].isdecimal():
        actions.remove_host_key(words[0], int(words[1]), words[2], by=by)


def _simply(act: Callable[..., Any]) -> Callable[..., Any]:
    return lambda request, identifier, *, by: act(identifier, by=by)


CHANGES: dict[str, Callable[..., Any]] = {
    "disconnect": _simply(actions.disconnect_session),
    "start-viewer": _start_viewer,
    "stop-viewer": _simply(actions.stop_viewer),
    "restart-viewer": _simply(actions.restart_viewer),
    "start-mirror": partial(_start_sync, actions.MIRROR),
    "start-smart": partial(_start_sync, actions.SMART),
    "stop-sync": _simply(actions.stop_sync),
    "retry-sync": _simply(actions.retry_sync),
    "forget-connection": _simply(actions.remove_host),
    "forget-key": _forget_key,
}
