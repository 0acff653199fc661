from django.urls import path

from .views import host_keys, sync, viewer

urlpatterns = [
    path("unified/connect", sync.Connect.as_view(), name="unified-connect"),
    path("unified/disconnect", sync.Disconnect.as_view(), name="unified-disconnect"),
    path("unified/status", sync.Status.as_view(), name="unified-status"),
    path("unified/listdir", sync.ListDirectory.as_view(), name="unified-listdir"),
    path("unified/configure_mode", sync.ConfigureMode.as_view(), name="unified-configure-mode"),
    path("unified/deactivate_mode", sync.DeactivateMode.as_view(), name="unified-deactivate-mode"),
    path("ssh/mirror/start", sync.MirrorStart.as_view(), name="ssh-mirror-start"),
    path("ssh/mirror/stop", sync.MirrorStop.as_view(), name="ssh-mirror-stop"),
    path("ssh/mirror/list", sync.MirrorList.as_view(), name="ssh-mirror-list"),
    path("ssh/connect", sync.SshConnect.as_view(), name="ssh-connect"),
    path("ssh/sessions", sync.SshSessions.as_view(), name="ssh-sessions"),
    path("ssh/close", sync.SshClose.as_view(), name="ssh-close"),
    path("ssh/listdir", sync.SshListDirectory.as_view(), name="ssh-listdir"),
    path("remote/connect", viewer.RemoteConnect.as_view(), name="remote-connect"),
    path("remote/disconnect", viewer.RemoteDisconnect.as_view(), name="remote-disconnect"),
    path("remote/sessions", viewer.RemoteSessions.as_view(), name="remote-sessions"),
    path("remote/status", viewer.RemoteStatus.as_view(), name="remote-status"),
    path("remote/fs/list", viewer.ListFolder.as_view(), name="remote-fs-list"),
    path("remote/fs/exists", viewer.PathExists.as_view(), name="remote-fs-exists"),
    path("remote/viewer/start", viewer.StartViewer.as_view(), name="remote-viewer-start"),
    path("remote/viewer/stop", viewer.StopViewer.as_view(), name="remote-viewer-stop"),
    path("remote/viewer/sessions", viewer.ViewerSessions.as_view(), name="remote-viewer-sessions"),
    path(
        "remote/viewer/status/<str:session_id>",
        viewer.ViewerStatus.as_view(),
        name="remote-viewer-status",
    ),
    path("remote/conda-envs", viewer.Environments.as_view(), name="remote-environments"),
    path("remote/config", viewer.HostConfig.as_view(), name="remote-host-config"),
    path("remote/connections/saved", viewer.SavedConnections.as_view(), name="remote-saved"),
    path("remote/known-hosts/accept", host_keys.AcceptHostKey.as_view(), name="accept-host-key"),
    path("remote/known-hosts/list", host_keys.HostKeys.as_view(), name="host-keys"),
    path("remote/known-hosts/remove", host_keys.RemoveHostKey.as_view(), name="remove-host-key"),
]
