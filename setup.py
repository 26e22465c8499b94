"""The compiled core: one extension per module of fastcore.

FASTCORE_SANITIZE=1 turns bounds checks back on, which raise IndexError, and
builds with the address and undefined-behaviour sanitizers, any finding of which
ends the process, and with what tells a fuzzer which branches were taken (clang
only; a library with both is to be loaded before Python). FASTCORE_WERROR=1,
which CI sets, makes warnings errors: another compiler may warn of other things.
"""

import multiprocessing
import os
import re
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

sanitize = os.environ.get("FASTCORE_SANITIZE") == "1"

# No -ffast-math: every copy of the state must come to the same bits.
# At -O3 the sanitizers' checks take the compiler longer than anybody waits.
level = "-O1" if sanitize else "-O3"
compile_args = [level, "-fno-math-errno", "-ffp-contract=off", "-Wall", "-Wno-unreachable-code"]
if os.environ.get("FASTCORE_WERROR") == "1":
    compile_args.append("-Werror")
if sanitize:
    compile_args += ["-fsanitize=address,undefined,fuzzer-no-link", "-fno-sanitize-recover=all"]
    compile_args += ["-fno-omit-frame-pointer", "-g"]
    # Room for few rows at once, and a block for each chunk of a list: what lies too far is then beyond what was
    # allocated; see fastcore/memory.pxd and chains.pxd.
    compile_args += ["-DTRADEUL_ROOM=2", "-DTRADEUL_RESERVED=1u", "-DTRADEUL_CHUNK_BLOCK=0"]
    # Of functions that a header defines and one file does not use.
    compile_args += ["-Wno-unused-function"]


def checked_sources() -> Path:
    """A copy of the sources with the checks on: a file's own directives win over those given to the compiler."""
    folder = Path("build/checked-sources/fastcore")
    folder.mkdir(parents=True, exist_ok=True)
    for source in (*Path("fastcore").glob("*.p[yx][xd]"), Path("fastcore/__init__.py")):
        text = re.sub(r"\b(boundscheck|initializedcheck)=False", r"\1=True", source.read_text(encoding="utf-8"))
        copy = folder / source.name
        if not copy.exists() or copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")
    return folder


sources = checked_sources() if sanitize else Path("fastcore")
extensions = [
    Extension(
        f"fastcore.{source.stem}",
        [str(source)],
        extra_compile_args=compile_args,
    )
    for source in sorted(sources.glob("*.pyx"))
]

setup(
    packages=[
        *("gateway", "tradeul", "tradeul.v1"),
        *find_packages(include=["fastcore", "fastcore.*", "services", "services.*"]),
    ],
    options={"build_ext": {"parallel": True}},
    ext_modules=cythonize(
        extensions,
        build_dir="build/cython",
        quiet=True,
        # Where processes are not forked, each would run this file.
        nthreads=(os.cpu_count() or 1) if multiprocessing.get_start_method() == "fork" else 0,
        include_path=[str(sources.parent)],
        # What the code relies on stands at the top of each file; a file without it gets the language's defaults.
        compiler_directives={
            "embedsignature": True,
            "freethreading_compatible": False,
        },
    ),
)
