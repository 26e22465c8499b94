"""The gateway's certificate: checked before Envoy starts, and the file by which Envoy finds it.

A certificate and a key are tried as a client would meet them, by a handshake in memory. Envoy itself starts with a
certificate that has expired, and says of others only that they failed.
"""

import json
import ssl
from pathlib import Path
from typing import Final

from services.kit.runtime.errors import StartError

# Of ssl.SSLCertVerificationError.verify_code, OpenSSL's X509_V_ERR_*.
NOT_YET_VALID: Final = 9
EXPIRED: Final = 10
MISMATCH: Final = "KEY_VALUES_MISMATCH"


def check_certificate(certificate: Path, key: Path) -> None:
    """Raises StartError when clients could not use them: naming the variable, the file and what is wrong with it."""
    for variable, path in (("TRADEUL_TLS_CERT_FILE", certificate), ("TRADEUL_TLS_KEY_FILE", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise StartError(f"{variable}: expected a file that can be read, was {path}: {error.strerror}") from error
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # The certificate is trusted itself: whoever signed it is the clients' business.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(certificate)
    except ssl.SSLError as error:
        raise StartError(f"TRADEUL_TLS_CERT_FILE: expected a certificate in PEM, was {certificate}") from error
    try:
        server.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == MISMATCH:
            raise StartError(
                f"TRADEUL_TLS_KEY_FILE: expected the key of {certificate}, was that of another certificate: {key}"
            ) from error
        raise StartError(f"TRADEUL_TLS_KEY_FILE: expected a private key in PEM, was {key}") from error
    try:
        _shake_hands(server, client)
    except ssl.SSLCertVerificationError as error:
        reasons = {NOT_YET_VALID: "is not valid yet", EXPIRED: "has expired"}
        reason = reasons.get(error.verify_code, f"is refused by clients: {error.verify_message}")
        raise StartError(f"TRADEUL_TLS_CERT_FILE: expected a valid certificate, but {certificate} {reason}") from error


def certificate_resource(certificate: Path, key: Path) -> str:
    """Returns the file, Envoy's DiscoveryResponse, that names both; Envoy reads them again when one is replaced.

    Replaced means that a file is renamed to, or a link replaced in, the certificate's directory.
    """
    certificate, key = certificate.absolute(), key.absolute()
    secret = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "gateway",
        "tls_certificate": {
            "certificate_chain": {"filename": str(certificate)},
            "private_key": {"filename": str(key)},
            "watched_directory": {"path": str(certificate.parent)},
        },
    }
    return json.dumps({"resources": [secret]})


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    # Three flights at most.
    for _ in range(4):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def _no_password() -> str:
    raise StartError("TRADEUL_TLS_KEY_FILE: expected a private key that is not encrypted")
