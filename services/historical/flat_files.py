"""Sources of flat files: a folder or an S3-compatible bucket in the vendor's layout."""

import asyncio
import contextlib
import datetime
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from services.kit.runtime.errors import INVALID_REQUEST
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.setting_groups import FlatFileSettings
from services.market.flat_files import ROOT, date_of_file, file_name

CHUNK_BYTES: Final = 4 * 1024 * 1024
# Of obstore's error, the cause in Rust's own notation.
_CERTIFICATE: Final = re.compile(r"InvalidCertificate\(\s*(\w+)")
_MESSAGE: Final = re.compile(r'message: "([^"]+)"')
_WRONG_CERTIFICATES: Final = {
    "UnknownIssuer": "no trusted authority has signed it",
    "Expired": "it has expired",
    "NotValidYet": "it is not valid yet",
    "NotValidForName": "it is for another name",
}


class FlatFileError(Exception):
    """The store failed to answer or to deliver the file."""


class FlatFile(NamedTuple):
    """A file on this machine. `place` names it in problems; `fingerprint` changes when the file does."""

    path: Path
    place: str
    fingerprint: str


class FlatFiles(Protocol):
    """Files by kind and day. Raises FlatFileError when the store cannot be listed."""

    async def fingerprint(self, kind: str, day: datetime.date) -> str | None:
        """A text that changes when the file does; None without a file."""

    def open(self, kind: str, day: datetime.date) -> "contextlib.AbstractAsyncContextManager[FlatFile | None]":
        """The file, while the context lasts; None when there is none."""
        ...

    async def newest(self, kind: str) -> datetime.date | None:
        """The newest day that there is a file of."""


class Folder:
    """A folder of this machine; also without the us_stocks_sip level, and files without .gz."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise INVALID_REQUEST.error(f"source: expected a folder, was {str(root)!r}", source=root)
        self._root = root / ROOT if (root / ROOT).is_dir() else root

    async def fingerprint(self, kind: str, day: datetime.date) -> str | None:
        path = self._path(kind, day)
        return None if path is None else _of_path(path)

    @contextlib.asynccontextmanager
    async def open(self, kind: str, day: datetime.date) -> AsyncIterator[FlatFile | None]:
        path = self._path(kind, day)
        yield None if path is None else FlatFile(path, str(path), _of_path(path))

    async def newest(self, kind: str) -> datetime.date | None:
        return await asyncio.to_thread(self._newest, kind)

    def _newest(self, kind: str) -> datetime.date | None:
        return max(
            (day for path in (self._root / kind).glob("*/*/*.csv*") if (day := date_of_file(path.name))), default=None
        )

    def _path(self, kind: str, day: datetime.date) -> Path | None:
        path = self._root.parent / file_name(kind, day) if self._root.name == ROOT else self._root / _below(kind, day)
        for candidate in (path, path.with_suffix("")):
            if candidate.is_file():
                return candidate
        return None


class Bucket:
    """An S3-compatible store: s3://bucket[/prefix]; endpoint and keys are settings. Files are fetched one at a time."""

    def __init__(self, url: str, settings: FlatFileSettings) -> None:
        # Only here: most installations read a folder.
        from obstore.store import S3Store

        parts = urlsplit(url)
        if not parts.netloc:
            raise INVALID_REQUEST.error(f"source: expected s3://bucket or s3://bucket/prefix, was {url!r}", source=url)
        self._url = url.rstrip("/")
        self._prefix = parts.path.strip("/")
        self._store = S3Store(
            parts.netloc,
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            access_key_id=settings.s3_key,
            secret_access_key=settings.s3_secret,
            virtual_hosted_style_request=False,
            client_options={"allow_http": settings.s3_endpoint.startswith("http://"), "timeout": "300 s"},
        )

    async def fingerprint(self, kind: str, day: datetime.date) -> str | None:
        import obstore

        try:
            head = await obstore.head_async(self._store, self._key(kind, day))
        except FileNotFoundError:
            return None
        except obstore.exceptions.BaseError as error:
            raise FlatFileError(f"{self._url}: {_reason(error)}") from error
        return f"{head['e_tag']} {head['size']}"

    @contextlib.asynccontextmanager
    async def open(self, kind: str, day: datetime.date) -> AsyncIterator[FlatFile | None]:
        import obstore

        key = self._key(kind, day)
        try:
            answer = await obstore.get_async(self._store, key)
        except FileNotFoundError:
            yield None
            return
        except obstore.exceptions.BaseError as error:
            raise FlatFileError(f"{self._url}: {_reason(error)}") from error
        fingerprint = f"{answer.meta['e_tag']} {answer.meta['size']}"
        with tempfile.NamedTemporaryFile(suffix=f"-{day}.csv.gz") as file:
            try:
                async for chunk in answer.stream(min_chunk_size=CHUNK_BYTES):
                    await asyncio.to_thread(file.write, chunk)
            except obstore.exceptions.BaseError as error:
                raise FlatFileError(f"{self._url}/{key}: {reason_of(error)}") from error
            file.flush()
            yield FlatFile(Path(file.name), f"{self._url.removesuffix('/' + self._prefix)}/{key}", fingerprint)

    async def newest(self, kind: str) -> datetime.date | None:
        import obstore

        found: datetime.date | None = None
        try:
            async for batch in self._store.list(f"{self._prefix}/{ROOT}/{kind}/".lstrip("/")):
                days = [day for one in batch if (day := date_of_file(one["path"].rsplit("/", 1)[-1]))]
                found = max([*days, *([found] if found else [])], default=None)
        except obstore.exceptions.BaseError as error:
            raise FlatFileError(f"{self._url}: {_reason(error)}") from error
        return found

    def _key(self, kind: str, day: datetime.date) -> str:
        return f"{self._prefix}/{file_name(kind, day)}".lstrip("/")


def open_source(source: str, settings: FlatFileSettings) -> FlatFiles:
    """The store that `source` names; raises INVALID_REQUEST for one that is neither folder nor s3:// URL."""
    return Bucket(source, settings) if source.startswith("s3://") else Folder(Path(source).expanduser())


def _below(kind: str, day: datetime.date) -> str:
    return file_name(kind, day).removeprefix(f"{ROOT}/")


def _of_path(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _reason(error: Exception) -> str:
    """Returns what obstore's error says, in one line, without the structures that it is made of."""
    message, _, structure = str(error).partition("Debug source:")
    if found := _CERTIFICATE.search(structure):
        name = found[1].removesuffix("Context")
        return f"the store's certificate is refused: {_WRONG_CERTIFICATES.get(name, name)}"
    if found := _MESSAGE.search(structure):
        message = f"{message.strip()}: {found[1]}"
    return reason_of(FlatFileError(message))
