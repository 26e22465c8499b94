"""The mesh's certificate in this process, read again when its files change."""

import functools
import os
import ssl
from typing import NamedTuple

from services.kit.runtime.certificates import check_mesh_certificate, client_context, files_of, server_context
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.open_files import is_out_of_files
from services.kit.runtime.setting_groups import MeshTlsSettings

log = get_logger(__name__)


class Material(NamedTuple):
    """The files' contents at one time, in PEM, and the contexts made of them."""

    certificate: bytes
    key: bytes
    authority: bytes
    server: ssl.SSLContext
    client: ssl.SSLContext


class MeshCertificates:
    """The newest usable certificate. While the files do not match, the ones before stay in use."""

    def __init__(self, settings: MeshTlsSettings) -> None:
        self.settings = settings
        self._stamps: object = None
        self._material: Material | None = None

    def current(self) -> Material:
        """Returns the certificate to use for a new connection; raises StartError when there never was a usable one."""
        try:
            stamps = [os.stat(path)[1:] for path in map(str, files_of(self.settings))]
        except OSError:
            # Between two renames.
            stamps = []
        if self._material is not None and stamps == self._stamps:
            return self._material
        try:
            check_mesh_certificate(self.settings)
            certificate, key, authority = (path.read_bytes() for path in files_of(self.settings))
            server, client = server_context(self.settings), client_context(self.settings)
            renewed = Material(certificate, key, authority, server, client)
        except (StartError, OSError, ssl.SSLError) as error:
            if self._material is None:
                raise
            if is_out_of_files(error) or is_out_of_files(error.__cause__):
                # It is tried again for the next connection.
                return self._material
            log.warning("the renewed certificate cannot be used; the one before stays in use", error=error)
        else:
            if self._material is not None:
                log.info("the certificate is renewed", file=str(self.settings.cert_file))
            self._material = renewed
        self._stamps = stamps
        assert self._material is not None
        return self._material

    def listening_context(self) -> ssl.SSLContext:
        """Returns the context of a server whose new connections get the newest certificate."""
        context = self.current().server

        def renew(connection: ssl.SSLObject | ssl.SSLSocket, _: str | None, __: ssl.SSLContext) -> None:
            if (newest := self.current().server) is not context:
                connection.context = newest

        context.sni_callback = renew
        return context


@functools.cache
def certificates_of(settings: MeshTlsSettings) -> MeshCertificates:
    """Returns the one of the process for these settings."""
    return MeshCertificates(settings)
