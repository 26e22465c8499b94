"""A certification authority that is thrown away, made with the openssl program."""

import subprocess
from pathlib import Path
from typing import NamedTuple

EXTENSIONS = "subjectAltName={names}\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage={usage}\n"


class Pair(NamedTuple):
    """A certificate and its key, in PEM."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates: `Authority(tmp_path, "ca").certificate("gateway", "DNS:localhost")`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
        openssl(
            *("req", "-x509", *new_key(self.pair.key), "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", "keyUsage=critical,keyCertSign", "-out", str(self.pair.certificate)),
        )

    def certificate(
        self, name: str, names: str, *, start: str = "", end: str = "", usage: str = "serverAuth", user: str = ""
    ) -> Pair:
        """`names` like "DNS:localhost,IP:127.0.0.1"; `start` and `end` as YYYYMMDDHHMMSSZ, by default from today on."""
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        database = self._folder / f"{name}.index"
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        extensions.write_text(EXTENSIONS.format(names=names, usage=usage))
        openssl("req", *new_key(pair.key), "-subj", f"/CN={user or name}", "-out", str(request))
        database.touch()
        config = self._folder / f"{name}.cnf"
        config.write_text(
            f"[ca]\ndefault_ca=own\n[own]\ndatabase={database}\nnew_certs_dir={self._folder}\nrand_serial=yes\n"
            "default_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n"
        )
        validity = ("-startdate", start, "-enddate", end) if start else ("-days", "2")
        openssl(
            *("ca", "-batch", "-notext", "-config", str(config), "-extfile", str(extensions), *validity),
            *("-cert", str(self.pair.certificate), "-keyfile", str(self.pair.key)),
            *("-in", str(request), "-out", str(pair.certificate)),
        )
        return pair


def new_key(path: Path) -> tuple[str, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path))


def openssl(*arguments: str) -> None:
    result = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
