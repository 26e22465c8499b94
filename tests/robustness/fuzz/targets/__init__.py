"""The targets: a module each, with a TARGET."""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.robustness.fuzz.target import Target

NAMES: Final = tuple(sorted(module.name for module in iter_modules(__path__)))


def target(name: str) -> "Target":
    """The target of this name; KeyError when there is none."""
    if name not in NAMES:
        raise KeyError(f"expected one of {', '.join(NAMES)}, was {name!r}")
    # Only now: the fuzzer's process alone can load the core that is built for it.
    found: Target = import_module(f"{__name__}.{name}").TARGET
    return found
