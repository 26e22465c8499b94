"""The files by which Envoy finds certificates: it reads them again when they are replaced."""

import json
from pathlib import Path
from typing import Any

from services.kit.runtime.certificates import files_of
from services.kit.runtime.setting_groups import MeshTlsSettings

SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
MESH = "mesh"
MESH_AUTHORITY = "mesh_authority"


def certificate_resource(certificate: Path, key: Path) -> str:
    """Returns the file, Envoy's DiscoveryResponse, that names both; Envoy reads them again when one is replaced.

    Replaced means that a file is renamed to, or a link replaced in, the certificate's directory.
    """
    return json.dumps({"resources": [_pair("gateway", certificate, key)]})


def mesh_resources(settings: MeshTlsSettings) -> dict[str, str]:
    """Returns, by their names, the files for connections to the services: the certificate, and whose are accepted."""
    certificate, key, authority = files_of(settings)
    authority = authority.absolute()
    validation = {
        "@type": SECRET,
        "name": MESH_AUTHORITY,
        "validation_context": {
            "trusted_ca": {"filename": str(authority)},
            "watched_directory": {"path": str(authority.parent)},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": settings.name}}],
        },
    }
    return {
        "mesh.json": json.dumps({"resources": [_pair(MESH, certificate, key)]}),
        "mesh_authority.json": json.dumps({"resources": [validation]}),
    }


def _pair(name: str, certificate: Path, key: Path) -> dict[str, Any]:
    certificate, key = certificate.absolute(), key.absolute()
    return {
        "@type": SECRET,
        "name": name,
        "tls_certificate": {
            "certificate_chain": {"filename": str(certificate)},
            "private_key": {"filename": str(key)},
            "watched_directory": {"path": str(certificate.parent)},
        },
    }
