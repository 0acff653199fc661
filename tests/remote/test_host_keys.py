"""No host is talked to before a person has confirmed its key."""

from __future__ import annotations

import asyncssh
import pytest

from remote.ssh import known_hosts
from tests import servers

from .conftest import login_to


def a_key(kind: str = "ssh-ed25519") -> asyncssh.SSHKey:
    return asyncssh.generate_private_key(kind).convert_to_public()


@pytest.mark.servers
@pytest.mark.parametrize("path", ["/unified/connect", "/ssh/connect", "/remote/connect"])
def test_an_unknown_key_has_to_be_confirmed(api, sshd, path):
    answer = api.post(path, login_to(sshd), 409)
    key = asyncssh.import_public_key(sshd.host_key())
    assert answer["detail"] == {
        "code": "HOST_KEY_CONFIRMATION_REQUIRED",
        "message": "Host key verification failed",
        "host_key": {
            "host": "127.0.0.1",
            "port": sshd.port,
            "known_hosts_host": f"[127.0.0.1]:{sshd.port}",
            "key_type": "ssh-ed25519",
            "fingerprint_sha256": key.get_fingerprint(),
            "public_key": sshd.host_key(),
            "reason": "unknown",
        },
    }


@pytest.mark.servers
def test_a_changed_key_is_refused_and_shown_beside_the_old(api, sshd, tmp_path):
    api.trust(sshd)
    old = asyncssh.import_public_key(sshd.host_key())
    with servers.sshd(tmp_path / "other") as other:
        known_hosts.accept("127.0.0.1", other.port, old)
        found = api.post("/unified/connect", login_to(other), 409)["detail"]["host_key"]
        assert found["reason"] == "changed"
        assert found["public_key"] == other.host_key()
        assert found["expected_public_key"] == sshd.host_key()
        assert found["expected_fingerprint_sha256"] == old.get_fingerprint()
        names = ("host", "port", "key_type", "public_key", "fingerprint_sha256")
        api.post("/remote/known-hosts/accept", {name: found[name] for name in names})
        api.post("/unified/connect", login_to(other))
    assert len(known_hosts.keys_of("127.0.0.1", other.port)) == 1


@pytest.mark.servers
def test_a_host_with_several_keys_is_recognised_by_the_one_that_is_known(api, sshd):
    known_hosts.accept("127.0.0.1", sshd.port, asyncssh.import_public_key(sshd.host_key("rsa")))
    api.post("/unified/connect", login_to(sshd))


@pytest.mark.servers
def test_openssh_reads_what_was_written(api, sshd):
    api.trust(sshd)
    import subprocess

    found = subprocess.check_output(
        ["ssh-keygen", "-F", f"[127.0.0.1]:{sshd.port}", "-f", known_hosts.path()], text=True
    )
    assert sshd.host_key() in found


def accepted(key: asyncssh.SSHKey, **changes) -> dict:
    return {
        "host": "gpu",
        "port": 22,
        "key_type": key.get_algorithm(),
        "public_key": known_hosts.public_text(key),
        "fingerprint_sha256": key.get_fingerprint(),
        **changes,
    }


def test_keys_are_listed_and_removed(api):
    key = a_key()
    api.post("/remote/known-hosts/accept", accepted(key, port=2222))
    (entry,) = api.get("/remote/known-hosts/list")["entries"]
    assert entry == {
        "host": "gpu",
        "port": 2222,
        "known_hosts_host": "[gpu]:2222",
        "key_type": "ssh-ed25519",
        "key_base64": known_hosts.public_text(key).split()[1],
        "fingerprint_sha256": key.get_fingerprint(),
    }
    body = {"host": "gpu", "port": 2222, "key_type": "ssh-ed25519"}
    assert api.post("/remote/known-hosts/remove", body) == {"ok": True, "changed": True}
    assert api.post("/remote/known-hosts/remove", body) == {"ok": True, "changed": False}
    assert api.get("/remote/known-hosts/list") == {"entries": []}


@pytest.mark.parametrize(
    "change, detail",
    [
        ({"host": "a,b"}, "Invalid host"),
        ({"host": "a b"}, "Invalid host"),
        ({"host": "a\nb"}, "Invalid host"),
        ({"key_type": "ssh ed25519"}, "Invalid key_type"),
        ({"public_key": "no key"}, "Invalid public_key"),
        ({"fingerprint_sha256": "MD5:a"}, "Invalid fingerprint_sha256"),
        ({"key_type": "ssh-rsa"}, "key_type does not match public_key"),
        ({"fingerprint_sha256": "SHA256:a"}, "fingerprint_sha256 does not match public_key"),
        ({"port": 65536}, "port"),
        ({"public_key": "x" * 8193}, "public_key"),
    ],
)
def test_what_is_not_what_the_person_saw_is_refused(api, change, detail):
    answer = api.post("/remote/known-hosts/accept", accepted(a_key(), **change), 400)
    assert answer["detail"].startswith(detail)
    assert not known_hosts.path().exists()


def test_other_lines_of_the_file_are_kept():
    first, second, other = a_key(), a_key(), a_key("ecdsa-sha2-nistp256")
    kept = [
        "# a comment with \udcff bytes",
        f"@revoked * {known_hosts.public_text(first)}",
        f"|1|salt|hash {known_hosts.public_text(first)}",
        f"gpu {known_hosts.public_text(other)}",
    ]
    shared = f"gpu,login {known_hosts.public_text(first)} from a colleague"
    text = "".join(f"{line}\n" for line in [*kept, shared])
    known_hosts.path().write_bytes(text.encode("utf-8", "surrogateescape"))
    known_hosts.accept("gpu", 22, second)
    assert set(known_hosts.keys_of("gpu", 22)) == {second, other}
    assert known_hosts.keys_of("login", 22) == [first]
    lines = known_hosts.path().read_bytes().decode("utf-8", "surrogateescape").splitlines()
    assert lines == [
        *kept,
        f"login {known_hosts.public_text(first)} from a colleague",
        f"gpu {known_hosts.public_text(second)}",
    ]
