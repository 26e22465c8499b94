"""The compiled core: one extension per module of fastcore.

FASTCORE_DEBUG=1 turns bounds checks back on; FASTCORE_SANITIZE=1 builds with
the address and undefined-behaviour sanitizers; FASTCORE_WERROR=1, which CI
sets, makes warnings errors: another compiler may warn of other things.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

debug = os.environ.get("FASTCORE_DEBUG") == "1"
sanitize = os.environ.get("FASTCORE_SANITIZE") == "1"

# No -ffast-math: every copy of the state must come to the same bits.
# At -O3 the sanitizers' checks take the compiler longer than anybody waits.
level = "-O1" if sanitize else "-O3"
compile_args = [level, "-fno-math-errno", "-ffp-contract=off", "-Wall", "-Wno-unreachable-code"]
link_args: list[str] = []
if os.environ.get("FASTCORE_WERROR") == "1":
    compile_args.append("-Werror")
if sanitize:
    flags = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"]
    compile_args += flags
    link_args += flags

extensions = [
    Extension(
        f"fastcore.{source.stem}",
        [str(source)],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    for source in sorted(Path("fastcore").glob("*.pyx"))
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
        compiler_directives={
            "language_level": 3,
            "boundscheck": debug,
            "wraparound": debug,
            "initializedcheck": debug,
            "cdivision": True,
            "embedsignature": True,
            "freethreading_compatible": False,
        },
    ),
)
