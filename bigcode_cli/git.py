"""git, which is never let run a program that a repository names.

A repository that someone else made may come with a ``.git/config``, and git runs what stands
there: a file system monitor, hooks, filters, text converters, diff drivers, remote helpers.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_KEPT = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH")
_CEILING = ("GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM")

_HARMLESS = (
    ("core.fsmonitor", "false"),
    ("core.hooksPath", os.devnull),
    ("safe.bareRepository", "explicit"),
)


def run_git(
    folder: Path,
    *words: str | Path,
    settings: Sequence[tuple[str, str]] = (),
    stdout: IO[bytes] | int = subprocess.PIPE,
    data: bytes = b"",
) -> subprocess.CompletedProcess[bytes] | None:
    """Run git in a folder; ``None`` where there is no git.

    Where this process itself was started by git (in a hook, say), the repository that it was
    started for is not taken for that of the folder.

    Args:
        words: the command and its arguments. Those that can run a program of their own accord
            (``diff``, ``add``, ``checkout``, ``fetch`` …) need to be told not to.
        settings: further settings, which go over those of the repository.
        stdout: where the output goes, if not into the result.
        data: what git reads on its standard input.
    """
    program = _program()
    if program is None:
        return None
    return subprocess.run(
        [program, "--no-pager", "-C", folder, *words],
        input=data,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=_environment((*_HARMLESS, *settings)),
        check=False,
    )


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """What git said was wrong, in one line."""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    fatal = [line.removeprefix("fatal: ") for line in lines if line.startswith("fatal: ")]
    return next(iter(fatal or lines), f"git ended with exit code {done.returncode}")


def _program() -> str | None:
    """Where git is: never in the current folder, which may be that of a repository."""
    places = [place for place in os.get_exec_path() if os.path.isabs(place)]  # noqa: PTH117
    return shutil.which("git", path=os.pathsep.join(places))


def _environment(settings: Sequence[tuple[str, str]]) -> dict[str, str]:
    # Settings in the environment take any name, and go over those in files.
    told = {"GIT_CONFIG_COUNT": str(len(settings))}
    for place, (name, value) in enumerate(settings):
        told |= {f"GIT_CONFIG_KEY_{place}": name, f"GIT_CONFIG_VALUE_{place}": value}
    others = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in (*_KEPT, *_CEILING)
    }
    return {
        **others,
        **told,
        "LC_ALL": "C",
        "GIT_OPTIONAL_LOCKS": "0",
        # A part that was never fetched stays away: fetching runs what the remote's settings say.
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "",
    }
