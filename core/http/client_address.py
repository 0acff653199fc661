"""The address of the client that sent a request."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from django.conf import settings
from django.http import HttpRequest
from django.http.request import split_domain_port


def client_address(request: HttpRequest) -> str:
    """Return the TCP peer; behind trusted proxies, the nearest address that is not a proxy's."""
    address = peer_address(request)
    hops = request.headers.get("X-Forwarded-For", "").split(",")
    while is_trusted_proxy(address) and hops and (hop := hops.pop().strip()):
        address = hop
    return address


def peer_address(request: HttpRequest) -> str:
    return request.META.get("REMOTE_ADDR", "")


def is_trusted_proxy(address: str) -> bool:
    ip = _parse(address)
    proxies = _networks(tuple(map(str, settings.RUNICORN_TRUSTED_PROXIES)))
    return ip is not None and any(ip in network for network in proxies)


def is_loopback(address: str) -> bool:
    ip = _parse(address)
    return ip is not None and ip.is_loopback


def is_from_this_machine(request: HttpRequest) -> bool:
    """Return whether a client on this machine sent *request* to one of its loopback names.

    A header that a proxy adds means that the client may be on another machine, unless the proxy
    is trusted.
    """
    peer = peer_address(request)
    if not is_trusted_proxy(peer) and any(
        name.startswith("X-Forwarded-") or name in ("Forwarded", "Via") for name in request.headers
    ):
        return False
    host = split_domain_port(request.get_host())[0]
    return (
        is_loopback(peer)
        and is_loopback(client_address(request))
        and (host == "localhost" or is_loopback(host.strip("[]")))
    )


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip  # ::ffff:127.0.0.1 is 127.0.0.1


@lru_cache
def _networks(texts: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    return [ip_network(text, strict=False) for text in texts]
