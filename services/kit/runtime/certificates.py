"""Certificates, tried before anything uses them: as a peer would meet them, by a handshake in memory.

Each wrong file is one line that names its variable. gRPC and Envoy say of a wrong certificate only that it failed, and
of one that has expired nothing.
"""

import os
import ssl
from pathlib import Path
from typing import Final

import certifi

from services.kit.runtime.errors import StartError
from services.kit.runtime.setting_groups import MeshTlsSettings

# Of ssl.SSLCertVerificationError.verify_code, OpenSSL's X509_V_ERR_*.
NOT_YET_VALID: Final = 9
EXPIRED: Final = 10
INVALID_PURPOSE: Final = 26
WRONG_NAME: Final = 62
MISMATCH: Final = "KEY_VALUES_MISMATCH"
GATEWAY: Final = "TRADEUL_TLS_"
MESH: Final = "TRADEUL_MESH_TLS_"


def check_certificate(certificate: Path, key: Path, prefix: str = GATEWAY) -> None:
    """Raises StartError when peers could not use them: naming the variable, the file and what is wrong with it."""
    for variable, path in ((f"{prefix}CERT_FILE", certificate), (f"{prefix}KEY_FILE", key)):
        _check_readable(variable, path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # The certificate is trusted itself: whoever signed it is its peers' business.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(certificate)
    except ssl.SSLError as error:
        raise StartError(f"{prefix}CERT_FILE: expected a certificate in PEM, was {certificate}") from error

    def no_password() -> str:
        raise StartError(f"{prefix}KEY_FILE: expected a private key that is not encrypted")

    try:
        server.load_cert_chain(certificate, key, password=no_password)
    except ssl.SSLError as error:
        if error.reason == MISMATCH:
            raise StartError(
                f"{prefix}KEY_FILE: expected the key of {certificate}, was that of another certificate: {key}"
            ) from error
        raise StartError(f"{prefix}KEY_FILE: expected a private key in PEM, was {key}") from error
    try:
        _shake_hands(server, client, None)
    except ssl.SSLCertVerificationError as error:
        reasons = {NOT_YET_VALID: "is not valid yet", EXPIRED: "has expired"}
        reason = reasons.get(error.verify_code, f"is refused by clients: {error.verify_message}")
        raise StartError(f"{prefix}CERT_FILE: expected a valid certificate, but {certificate} {reason}") from error


def check_authority(variable: str, authority: Path) -> None:
    """Raises StartError when the file does not hold certificates of authorities."""
    _check_readable(variable, authority)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(authority)
    except ssl.SSLError as error:
        raise StartError(f"{variable}: expected certificates of authorities in PEM, was {authority}") from error


def check_mesh_certificate(settings: MeshTlsSettings) -> None:
    """Raises StartError when two services with these files would not accept each other."""
    certificate, key, authority = files_of(settings)
    check_certificate(certificate, key, MESH)
    check_authority(f"{MESH}CA_FILE", authority)
    try:
        _shake_hands(server_context(settings), client_context(settings), settings.name)
    except ssl.SSLCertVerificationError as error:
        reason = {
            WRONG_NAME: f"is not for the name {settings.name!r} (TRADEUL_MESH_TLS_NAME)",
            INVALID_PURPOSE: "is not for clients as well as servers (extendedKeyUsage)",
        }.get(error.verify_code, f"is not signed by an authority of {authority}: {error.verify_message}")
        raise StartError(
            f"{MESH}CERT_FILE: expected a certificate that services accept, but {certificate} {reason}"
        ) from error


def usual_authorities() -> Path:
    """Returns the authorities that are trusted where no setting names others: those of SSL_CERT_FILE, or of certifi."""
    return Path(os.environ.get("SSL_CERT_FILE") or certifi.where())


def files_of(settings: MeshTlsSettings) -> tuple[Path, Path, Path]:
    """Returns the certificate, the key and the authorities."""
    assert settings.cert_file is not None and settings.key_file is not None and settings.ca_file is not None, "all"
    return settings.cert_file, settings.key_file, settings.ca_file


def server_context(settings: MeshTlsSettings) -> ssl.SSLContext:
    """Returns the context of a server that wants a certificate of the mesh from each client, name included."""

    class NamedPeer(ssl.SSLObject):
        """Checks of a client what clients check of a server."""

        def do_handshake(self) -> None:
            super().do_handshake()
            names = (self.getpeercert() or {}).get("subjectAltName", ())
            if ("DNS", settings.name) not in names:
                raise ssl.SSLCertVerificationError(f"expected a client's certificate for the name {settings.name!r}")

    context = _context(settings, ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = NamedPeer
    return context


def client_context(settings: MeshTlsSettings) -> ssl.SSLContext:
    """Returns the context of a client; it checks the name that is passed as the server's."""
    return _context(settings, ssl.PROTOCOL_TLS_CLIENT)


def _context(settings: MeshTlsSettings, protocol: int) -> ssl.SSLContext:
    certificate, key, authority = files_of(settings)
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority)
    context.load_cert_chain(certificate, key)
    return context


def _check_readable(variable: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise StartError(f"{variable}: expected a file that can be read, was {path}: {error.strerror}") from error


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=name)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    # Three flights at most.
    for _ in range(4):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
