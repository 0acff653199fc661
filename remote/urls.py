from django.urls import path

from . import views

urlpatterns = [
    path("unified/connect", views.Connect.as_view(), name="unified-connect"),
    path("unified/disconnect", views.Disconnect.as_view(), name="unified-disconnect"),
    path("unified/status", views.Status.as_view(), name="unified-status"),
    path("unified/listdir", views.ListDirectory.as_view(), name="unified-listdir"),
    path("unified/configure_mode", views.ConfigureMode.as_view(), name="unified-configure-mode"),
    path("unified/deactivate_mode", views.DeactivateMode.as_view(), name="unified-deactivate-mode"),
    path("ssh/mirror/start", views.MirrorStart.as_view(), name="ssh-mirror-start"),
    path("ssh/mirror/stop", views.MirrorStop.as_view(), name="ssh-mirror-stop"),
    path("ssh/mirror/list", views.MirrorList.as_view(), name="ssh-mirror-list"),
    path("ssh/connect", views.SshConnect.as_view(), name="ssh-connect"),
    path("ssh/sessions", views.SshSessions.as_view(), name="ssh-sessions"),
    path("ssh/close", views.SshClose.as_view(), name="ssh-close"),
    path("ssh/listdir", views.SshListDirectory.as_view(), name="ssh-listdir"),
    path("remote/connect", views.RemoteConnect.as_view(), name="remote-connect"),
    path("remote/disconnect", views.RemoteDisconnect.as_view(), name="remote-disconnect"),
    path("remote/sessions", views.RemoteSessions.as_view(), name="remote-sessions"),
    path("remote/status", views.RemoteStatus.as_view(), name="remote-status"),
    path("remote/fs/list", views.ListFolder.as_view(), name="remote-fs-list"),
    path("remote/fs/exists", views.PathExists.as_view(), name="remote-fs-exists"),
    path("remote/known-hosts/accept", views.AcceptHostKey.as_view(), name="accept-host-key"),
    path("remote/known-hosts/list", views.HostKeys.as_view(), name="host-keys"),
    path("remote/known-hosts/remove", views.RemoveHostKey.as_view(), name="remove-host-key"),
]
