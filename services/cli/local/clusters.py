"""Envoy's clusters of hosts outside the mesh, whose certificates are checked as everybody's are."""

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from services.kit.runtime.certificates import usual_authorities

CONNECT_SECONDS: Final = 2
_HTTP2: Final = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


def url_cluster(name: str, url: str, *, http2: bool = False) -> dict[str, Any]:
    """Returns the cluster of an http:// or https:// URL's host."""
    parts = urlsplit(url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    cluster = _cluster(name, "STRICT_DNS", {"socket_address": {"address": host, "port_value": port}})
    if http2:
        cluster["typed_extension_protocol_options"] = _HTTP2
    if is_tls:
        validation = {
            "trusted_ca": {"filename": str(usual_authorities())},
            "match_typed_subject_alt_names": [
                {"san_type": kind, "matcher": {"exact": host}} for kind in ("DNS", "IP_ADDRESS")
            ],
        }
        common: dict[str, Any] = {"validation_context": validation}
        if http2:
            common["alpn_protocols"] = ["h2"]
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": host,
                "common_tls_context": common,
            },
        }
    return cluster


def socket_cluster(name: str, socket: Path) -> dict[str, Any]:
    """Returns the cluster of a unix socket."""
    return _cluster(name, "STATIC", {"pipe": {"path": str(socket)}})


def _cluster(name: str, kind: str, address: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "type": kind,
        "dns_lookup_family": "V4_PREFERRED",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
