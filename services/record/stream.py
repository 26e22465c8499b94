"""The market beside a recording of the stream, with which the next day's file begins."""

from pathlib import Path

from fastcore.market import Market
from services.kit.lists.definitions import load_lists
from services.kit.rpc.frames import Frame
from services.kit.runtime.errors import StartError
from services.market import recorded_stream


class StreamCopy:
    """A copy that has applied what the file has; empty until load() or begin()."""

    def __init__(self) -> None:
        self._lists = load_lists()
        self._market: Market | None = None

    def load(self, data: bytes) -> None:
        """Goes on from a snapshot; raises ValueError when it cannot be read."""
        self._market = Market.from_bytes(self._lists, data, encode_deltas=False)

    def begin(self, epoch: int) -> None:
        """An epoch begins with its first frame."""
        self._market = Market(self._lists, epoch, encode_deltas=False)

    def apply(self, frame: Frame) -> None:
        """Raises ValueError when the frame cannot be applied."""
        if self._market is not None:
            self._market.apply(frame.encoded)

    def entry(self) -> bytes:
        """The market as it is now, for the file."""
        assert self._market is not None, "a market was begun or loaded"
        return recorded_stream.entry(recorded_stream.MARKET, self._market.to_bytes())

    def read(self, path: Path) -> None:
        """Comes to where a file ends; raises StartError when it cannot be read."""
        try:
            for kind, content, _ in recorded_stream.read(path):
                if kind == recorded_stream.MARKET:
                    self.load(content)
                elif self._market is not None:
                    self._market.apply(content)
        except ValueError as error:
            raise StartError(f"{path}: the recorded stream cannot be continued: {error}") from error
