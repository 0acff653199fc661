"""The page of the remote hosts: connections, viewers, syncs, trusted keys."""

from __future__ import annotations

import secrets
import time
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
from remote.exceptions import HostKeyUnconfirmed, RemoteError
from remote.ssh import auth, known_hosts, transport
from remote.ssh.connections import VIEWER, Connection, pool
from remote.sync import registry
from remote.viewer import viewers
from runicorn import config, credentials

from .run_pages import page

QUESTION_SECONDS = 300
MOST_QUESTIONS = 100


Again = Callable[[HttpRequest], HttpResponseBase]


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

    def address(self) -> transport.Address:
        data = self.cleaned_data
        username = data["username"] or transport.default_username(data["host"])
        return transport.find_address(data["host"], data["port"], username)

    def credentials(self) -> transport.Credentials:
        data = self.cleaned_data
        names = ("password", "private_key_path", "passphrase")
        return transport.Credentials(
            **{name: data[name] or None for name in names}, use_agent=data["use_agent"]
        )

    def to_save(self, address: transport.Address) -> dict[str, Any]:
        data = self.cleaned_data
        method = "password" if data["password"] else "key" if data["private_key_path"] else "agent"
        names = ("name", "password", "private_key_path", "passphrase", "remember_password")
        target = {"host": address.host, "port": address.port, "username": address.username}
        return {**target, **{name: data[name] for name in names}, "auth_method": method}


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
    context = {
        **_activity(),
        "form": form,
        "is_refused": form.is_bound,
        "saved": config.ssh_connections(),
        "aliases": transport.aliases() if may(request.user, Right.ADMINISTER) else [],
        "known_hosts": known_hosts.entries(),
    }
    return render(request, "pages/remote.html", context, status=status)


def _activity() -> dict[str, Any]:
    return {
        "connections": [
            {"id": c.id, "is_open": c.is_open, "error": c.last_error, "since": _at(c.connected_at)}
            for c in pool.all()
        ],
        "viewers": [
            {"session": session, "since": _at(session.started_at), "until": _at(session.ended_at)}
            for session in viewers.sessions()
        ],
        "syncs": [
            {"mode": sync.mode, "host": sync.connection.id, **sync.describe()}
            for sync in registry.syncs()
        ],
    }


def _at(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None


# -- logging in ------------------------------------------------------------------------------------


class Questions:
    """Logins that wait for a person to confirm a host's key.

    Their secrets stay here meanwhile; the page that asks has only a number for them.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[float, Any, Again, dict[str, Any]]] = {}

    def add(self, user: Any, again: Again, host_key: dict[str, Any]) -> str:
        now = time.monotonic()
        recent = [item for item in self._waiting.items() if now - item[1][0] < QUESTION_SECONDS]
        self._waiting = dict(recent[1 - MOST_QUESTIONS :])
        number = secrets.token_urlsafe(16)
        self._waiting[number] = (now, user.pk, again, host_key)
        return number

    def take(self, user: Any, number: str) -> tuple[Again, dict[str, Any]] | None:
        asked_at, owner, again, host_key = self._waiting.pop(number, (0.0, None, None, {}))
        if again is None or owner != user.pk or time.monotonic() - asked_at > QUESTION_SECONDS:
            return None
        return again, host_key


_questions = Questions()


@needs(Right.CHANGE)
@require_POST
@page
def connect(request: HttpRequest) -> HttpResponseBase:
    if name := request.POST.get("saved"):
        return _finish(request, lambda now: _connect_saved(now, name), None)
    form = LoginForm(request.POST)
    if not form.is_valid():
        return _show(request, form, 400)
    return _finish(request, lambda now: _connect_new(now, form), form)


def _connect_saved(request: HttpRequest, name: str) -> Connection:
    entry = auth.from_saved(auth.saved(name, by=request.user), {})
    address = transport.find_address(entry.pop("host"), entry.pop("port"), entry.pop("username"))
    login = transport.Credentials(**entry)
    client = client_address(request)
    return auth.connect(VIEWER, address, login, client=client, by=request.user)


def _connect_new(request: HttpRequest, form: LoginForm) -> Connection:
    address = form.address()
    client = client_address(request)
    login = form.credentials()
    connection = auth.connect(VIEWER, address, login, client=client, by=request.user)
    if form.cleaned_data["save"]:
        try:
            config.save_ssh_connection(form.to_save(address))
        except (config.ConfigError, credentials.CredentialsError, OSError) as error:
            messages.error(request, str(error))
    return connection


def _finish(
    request: HttpRequest, attempt: Callable[[HttpRequest], Connection], form: LoginForm | None
) -> HttpResponseBase:
    try:
        connection = attempt(request)
    except HostKeyUnconfirmed as error:
        again = partial(_finish, attempt=attempt, form=form)
        number = _questions.add(request.user, again, error.host_key)
        context = {"key": error.host_key, "number": number}
        return render(request, "pages/host_key.html", context)
    except RemoteError as error:
        messages.error(request, _explain(error))
        return _show(request, form, error.status) if form else redirect("remote")
    messages.success(request, _("Connected to %s.") % connection.id)
    return redirect("remote")


@needs(Right.CHANGE)
@require_POST
@page
def trust(request: HttpRequest) -> HttpResponseBase:
    """Trust the key that was shown, and repeat the login that waits for it."""
    question = _questions.take(request.user, request.POST.get("number", ""))
    if question is None:
        messages.error(request, _("This question is too old: connect again."))
        return redirect("remote")
    again, key = question
    known_hosts.accept_text(key["host"], key["port"], key["public_key"])
    return again(request)


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
        CHANGES[verb](request, request.POST.get("id", ""))
    except RemoteError as error:
        messages.error(request, _explain(error))
    return redirect("remote")


def _disconnect(request: HttpRequest, identifier: str) -> None:
    address = actions.open_connection(identifier, even_if_cut=True).address
    actions.disconnect(address.host, address.port, address.username)


def _start_viewer(request: HttpRequest, identifier: str) -> None:
    connection = actions.open_connection(identifier)
    session = actions.start_viewer(connection, _folder(request))
    messages.success(request, _("The viewer is ready at %s.") % session.url)


def _start_sync(mode: str, request: HttpRequest, identifier: str) -> None:
    actions.start_sync(mode, actions.open_connection(identifier), _folder(request))


def _folder(request: HttpRequest) -> str:
    folder = request.POST.get("folder", "").strip()
    if not folder or any(ord(c) < 32 for c in folder):
        raise RemoteError(_("Say which folder of the host: the storage folder of its runs."))
    return folder


def _forget_key(request: HttpRequest, identifier: str) -> None:
    words = identifier.split()
    if len(words) == 3 and words[1].isdecimal():
        known_hosts.remove(words[0], int(words[1]), words[2])


CHANGES: dict[str, Callable[[HttpRequest, str], Any]] = {
    "disconnect": _disconnect,
    "start-viewer": _start_viewer,
    "stop-viewer": lambda request, identifier: actions.stop_viewer(identifier),
    "restart-viewer": lambda request, identifier: actions.restart_viewer(identifier),
    "start-mirror": partial(_start_sync, registry.MIRROR),
    "start-smart": partial(_start_sync, registry.SMART),
    "stop-sync": lambda request, identifier: actions.stop_sync(identifier),
    "retry-sync": lambda request, identifier: actions.retry_sync(identifier),
    "forget-connection": lambda request, identifier: config.remove_ssh_connection(identifier),
    "forget-key": _forget_key,
}
