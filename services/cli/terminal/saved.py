"""The file that `tradeul top` keeps between runs: custom scans, and the columns of each list."""

import os
import tempfile
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastcore.fields import BY_NAME
from services.kit.runtime.redaction import reason_of

FILE: Final = Path("tradeul") / "top.json"
MOST_SCANS: Final = 50
Text = Annotated[str, Field(max_length=10_000)]


class SavedScan(BaseModel):
    """A custom scan."""

    model_config = ConfigDict(frozen=True)

    filter: Text = ""
    order_by: Text = ""


class Saved(BaseModel):
    """The file's contents."""

    scans: list[SavedScan] = []
    columns: dict[str, list[str]] = {}

    def columns_of(self, name: str) -> list[str]:
        """The chosen columns of a list that there are; empty when none was chosen."""
        return [each for each in self.columns.get(name, ()) if each in BY_NAME]


def saved_path() -> Path:
    """Returns the file, in the user's directory of settings."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / FILE


def load_saved(path: Path) -> tuple[Saved, str]:
    """Returns what is saved, and why it cannot be used; "" when it can, or when there is nothing."""
    try:
        return Saved.model_validate_json(path.read_bytes()), ""
    except FileNotFoundError:
        return Saved(), ""
    except (OSError, ValidationError) as error:
        return Saved(), f"{path}: {reason_of(error)}"


def save(saved: Saved, path: Path) -> str:
    """Replaces the file; returns why it cannot be written, "" when it is."""
    saved.scans = saved.scans[-MOST_SCANS:]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(saved.model_dump_json(indent=2))
        os.replace(file.name, path)
    except OSError as error:
        return f"{path}: {error.strerror or reason_of(error)}"
    return ""
