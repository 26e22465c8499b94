"""The pages that the gateway serves: Envoy routes that answer with their files, read once at its start.

The dashboard is at /, the OpenAPI document at /openapi.json and its viewer at /docs.
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from services.kit.runtime.errors import StartError
from services.kit.runtime.packaged import API_DOCS, SITE, Packaged
from services.kit.runtime.settings import Settings

TRANSCODER: Final = "envoy.filters.http.grpc_json_transcoder"
ACCESS: Final = "envoy.filters.http.ext_authz"
CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wav": "audio/wav",
    ".woff2": "font/woff2",
}
# Vite's names: NAME-HASH.EXTENSION, where the hash is of the contents.
HASHED: Final = re.compile(r"assets/.+-[\w-]{8}\.\w+")
INDEX: Final = "index.html"
READ: Final = ("GET", "HEAD")
# The pages are complete in themselves: nothing of another origin, no inline script or style, and in no frame.
POLICY: Final = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
# For pages of every origin: what they may read of the market is up to TRADEUL_CORS_ORIGINS. The CORS filter ignores
# direct responses.
SHARED: Final = {"access-control-allow-origin": "*"}
FOREVER: Final = "public, max-age=31536000, immutable"
# Kept, and used again after a question with its ETag.
CHECKED: Final = "no-cache"


def site_files(package: Packaged = SITE) -> dict[str, Path]:
    """Returns a site's files by their path below its folder; raises StartError when it has no index."""
    folder = package.path()
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    unknown = [name for name in found if Path(name).suffix not in CONTENT_TYPES]
    if INDEX not in found or unknown:
        kinds = ", ".join(CONTENT_TYPES)
        raise StartError(f"expected {INDEX} and files of {kinds} in {folder}, was {unknown or 'none'}")
    return found


def site_routes(settings: Settings, place: Callable[[Path], Path]) -> list[dict[str, Any]]:
    """Envoy routes that answer with both sites' files, and with what the dashboard has to know first (/site.json).

    Everybody may read them: a page asks for the key by itself where keys are required. `place` returns where Envoy
    finds a file.
    """
    routes = []
    keys = settings.requires_keys
    dashboard = {"/" if name == INDEX else f"/{name}": path for name, path in site_files().items()}
    viewer = {"/docs" if name == INDEX else f"/docs/{name}": path for name, path in site_files(API_DOCS).items()}
    viewer["/docs/"] = viewer["/docs"]
    for route, path in (dashboard | viewer).items():
        headers = {
            "content-type": CONTENT_TYPES[path.suffix],
            "cache-control": FOREVER if HASHED.fullmatch(route.removeprefix("/")) else CHECKED,
            "etag": _etag(path.read_bytes()),
            **HEADERS,
            **(SHARED if path.suffix == ".js" else {}),
        }
        routes += _routes(route, {"filename": str(place(path))}, headers, keys)
    known = {"keys": "required" if keys else "off", "market": settings.market, "clock": settings.clock}
    headers = {"content-type": CONTENT_TYPES[".json"], "cache-control": CHECKED, **HEADERS, **SHARED}
    return routes + _routes("/site.json", {"inline_string": json.dumps(known)}, headers, keys)


def document_routes(body: dict[str, str], content: str, keys: bool) -> list[dict[str, Any]]:
    """Envoy routes that answer with the OpenAPI document, whose `content` is in `body` or in the file that it names."""
    headers = {
        "content-type": CONTENT_TYPES[".json"],
        "cache-control": CHECKED,
        "etag": _etag(content.encode()),
        **SHARED,
    }
    return _routes("/openapi.json", body, headers, keys)


def _etag(content: bytes) -> str:
    return f'W/"{hashlib.sha256(content).hexdigest()[:20]}"'


def _routes(path: str, body: dict[str, str], headers: dict[str, str], keys: bool) -> list[dict[str, Any]]:
    """The file for those who read it, 204 for OPTIONS, and 405 for any other method."""
    disabled = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
    filters: dict[str, Any] = {TRANSCODER: disabled}
    if keys:
        kind = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"
        filters[ACCESS] = {"@type": kind, "disabled": True}
    allow = {"allow": ", ".join((*READ, "OPTIONS")), **SHARED}
    answers: tuple[tuple[str, dict[str, Any], dict[str, str]], ...] = (
        ("|".join(READ), {"status": 200, "body": body}, headers),
        ("OPTIONS", {"status": 204}, allow),
        (".*", {"status": 405}, allow),
    )
    return [
        {
            "match": {
                "path": path,
                "headers": [{"name": ":method", "string_match": {"safe_regex": {"regex": methods}}}],
            },
            "direct_response": response,
            "response_headers_to_add": [
                {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
                for key, value in added.items()
            ],
            "typed_per_filter_config": filters,
        }
        for methods, response, added in answers
    ]
