"""A certification authority that is thrown away."""

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

USAGES = {"serverAuth": ExtendedKeyUsageOID.SERVER_AUTH, "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH}
TIME = "%Y%m%d%H%M%S%z"


class Pair(NamedTuple):
    """A certificate and its key, in PEM."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates: `Authority(tmp_path, "ca").certificate("gateway", "DNS:localhost")`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _common_name(name)
        usage = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
        builder = _builder(self._name, self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        self.pair = _written(
            folder, name, builder.add_extension(usage, True).sign(self._key, hashes.SHA256()), self._key
        )

    def certificate(
        self, name: str, names: str, *, start: str = "", end: str = "", usage: str = "serverAuth", user: str = ""
    ) -> Pair:
        """`names` like "DNS:localhost,IP:127.0.0.1"; `start` and `end` as YYYYMMDDHHMMSSZ, by default from today on."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_common_name(user or name), self._name, key, start, end)
        builder = builder.add_extension(x509.BasicConstraints(False, None), True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([USAGES[each] for each in usage.split(",")]), False)
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(each) for each in names.split(",")]), False
        )
        return _written(self._folder, name, builder.sign(self._key, hashes.SHA256()), key)


def self_signed(folder: Path, name: str, names: str) -> Pair:
    """A certificate that no authority has signed."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), _common_name(name)
    alternatives = x509.SubjectAlternativeName([_general_name(each) for each in names.split(",")])
    return _written(
        folder, name, _builder(subject, subject, key).add_extension(alternatives, False).sign(key, hashes.SHA256()), key
    )


def encrypt_key(key: Path, password: str, encrypted: Path) -> None:
    """Writes the key anew, encrypted."""
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    protection = serialization.BestAvailableEncryption(password.encode())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, protection)
    encrypted.write_bytes(private.private_bytes(*form))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, start: str = "", end: str = ""
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    begin = datetime.datetime.strptime(start, TIME) if start else now - datetime.timedelta(hours=1)
    until = datetime.datetime.strptime(end, TIME) if end else now + datetime.timedelta(days=2)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(until)
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    return x509.DNSName(value) if kind == "DNS" else x509.IPAddress(ipaddress.ip_address(value))


def _written(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pair.key.write_bytes(key.private_bytes(*form))
    return pair
