"""The process that fuzzes, which __main__.py starts: `python -m tests.robustness.fuzz.process TARGET N ARGUMENT...`.

One of N inputs is compared with what its twin makes of it. The arguments are libFuzzer's. Its library has been loaded
before Python, so that the compiled core reports to it, too.
"""

import hashlib
import inspect
import os
import random
import shlex
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType

import atheris

from tests.robustness.fuzz.corpus import read
from tests.robustness.fuzz.target import Mutate, Target
from tests.robustness.fuzz.targets import target


def functions(module: ModuleType) -> Iterator[FunctionType]:
    """The functions and methods that the module defines."""
    for owner in (module, *(one for one in vars(module).values() if inspect.isclass(one))):
        for function in vars(owner).values():
            if inspect.isfunction(function) and function.__module__ == module.__name__:
                yield function


def taking_turns(mutate: Mutate) -> Callable[[bytes, int, int], bytes]:
    """A mutation of the target's own or of the fuzzer's, one as likely as the other."""

    def mutated(data: bytes, longest: int, seed: int) -> bytes:
        if seed & 1 and data:
            return mutate(data, random.Random(seed))[:longest]
        return bytes(atheris.Mutate(data, longest))

    return mutated


def sampled(chosen: Target, every: int) -> Callable[[bytes], None]:
    """The target's run for one of `every` inputs, the same ones each time; the compiled part alone for the others."""
    run, alone = chosen.run, chosen.alone
    if alone is None or every == 1:
        return run

    def run_or_alone(data: bytes) -> None:
        (alone if zlib.crc32(data) % every else run)(data)

    return run_or_alone


def end_process(unraisable: "sys.UnraisableHookArgs") -> None:
    """What compiled code that cannot raise has met, such as an index out of bounds, is a finding, too."""
    traceback.print_exception(unraisable.exc_type, unraisable.exc_value, unraisable.exc_traceback)
    os.abort()


def escaped(word: bytes) -> str:
    """A word as libFuzzer's dictionaries have it."""
    return "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in word)


def main() -> None:
    """Runs until the fuzzer ends the process."""
    name, every, *arguments = sys.argv[1:]
    chosen = target(name)
    sys.unraisablehook = end_process
    words = Path("words") / name
    words.parent.mkdir(exist_ok=True)
    # A dictionary may not be empty.
    words.write_text("".join(f'"{escaped(word)}"\n' for word in chosen.words or (b"\0",)), encoding="ascii")
    # Written where the fuzzer reads inputs, under the names that it gives them.
    for folder in () if "-merge=1" in arguments else filter(Path.is_dir, map(Path, arguments)):
        for data in (*read(name), *chosen.seeds()):
            (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    for module in chosen.python:
        for function in functions(import_module(module)):
            atheris.instrument_func(function)
    options = {} if chosen.mutate is None else {"custom_mutator": taking_turns(chosen.mutate)}
    # To minimise a corpus libFuzzer starts this command again, with other arguments.
    command = f"{shlex.quote(sys.executable)} -m tests.robustness.fuzz.process {name} {every}"
    atheris.Setup(
        [command, f"-max_len={chosen.longest}", f"-dict={words}", *arguments], sampled(chosen, int(every)), **options
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
