r"""Compile the engine: ``python -m bigcode_cli.kernels.native.build`` puts it beside this file.

Installing the package does the same. With ``--sanitize`` it is built to stop at the first access
out of bounds and at undefined behaviour, or else at a data race::

    python -m bigcode_cli.kernels.native.build --sanitize address
    LD_PRELOAD="$(c++ -print-file-name=libasan.so) $(c++ -print-file-name=libubsan.so)" \
        ASAN_OPTIONS=detect_leaks=0 pytest tests/kernels/native
    python -m bigcode_cli.kernels.native.build --sanitize thread
    LD_PRELOAD="$(c++ -print-file-name=libtsan.so)" setarch -R pytest tests/kernels/native

Each instruction set has a file of its own, compiled for it; which one runs is chosen at run time.
"""

import hashlib
import os
import platform
import sys
from pathlib import Path

SOURCES = Path(__file__).parent
NAME = "engine.dylib" if sys.platform == "darwin" else "engine.so"

_FLAGS = [
    *("-std=c++17", "-O3", "-fPIC"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
]
_RUNTIME = "-lc++" if sys.platform == "darwin" else "-lstdc++"  # which a C compiler leaves out
_SANITIZE = {
    "address": [
        *("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"),
        *("-g", "-O1"),
    ],
    "thread": ["-fsanitize=thread", "-g", "-O1"],
}
_X86 = {
    "isa_avx2.cpp": ["-mavx2", "-mfma", "-mf16c"],
    "isa_avx512.cpp": [
        *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"),
        *("-mfma", "-mf16c", "-mprefer-vector-width=512"),
    ],
}
_ARM = {"isa_neon.cpp": ["-march=armv8.2-a+dotprod"]}
_OWN = {"x86_64": _X86, "amd64": _X86, "aarch64": _ARM, "arm64": _ARM}


def sources_digest() -> str:
    """A hash of all sources, which the engine knows of its own: an older one is not called."""
    whole = hashlib.sha256()
    for path in sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")]):
        whole.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


def compiler() -> list[str]:
    """What ``CXX`` or else ``CC`` names; by default ``c++``."""
    import shlex

    return shlex.split(os.environ.get("CXX") or os.environ.get("CC") or "c++")


def flags_of(source: Path) -> list[str]:
    """With what a source file is compiled for this machine."""
    own = _OWN.get(platform.machine().lower(), {})
    return [*_FLAGS, *own.get(source.name, [])]


def build(out: Path, *, sanitize: str | None = None) -> None:
    """Compile all sources into one shared library.

    Args:
        sanitize: what it is to watch itself for: ``address`` or ``thread``.

    Raises:
        OSError: there is no such compiler.
        subprocess.CalledProcessError: it fails.
    """
    # The engine is loaded without what only its compilation needs.
    import subprocess
    import tempfile
    from concurrent.futures import ThreadPoolExecutor

    watch = _SANITIZE[sanitize] if sanitize else []
    with tempfile.TemporaryDirectory() as folder:

        def compiled(source: Path) -> str:
            target = str(Path(folder, source.stem + ".o"))
            flags = [*flags_of(source), *watch]
            subprocess.run([*compiler(), *flags, "-c", str(source), "-o", target], check=True)
            return target

        told = Path(folder, "sources.cpp")
        told.write_text(
            f'extern "C" const char *bigcode_sources() {{ return "{sources_digest()}"; }}\n'
        )
        with ThreadPoolExecutor() as pool:
            objects = list(pool.map(compiled, [*sorted(SOURCES.glob("*.cpp")), told]))
        # Whoever has the library open keeps the one that it has.
        part = out.with_name(out.name + ".part")
        link = [*compiler(), *_FLAGS, *watch, "-shared", "-pthread", *objects, "-o", str(part)]
        subprocess.run([*link, _RUNTIME, "-lm"], check=True)
        part.replace(out)


def main() -> None:
    """See the module's beginning."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sanitize", choices=_SANITIZE)
    build(SOURCES / NAME, sanitize=parser.parse_args().sanitize)


if __name__ == "__main__":
    main()
