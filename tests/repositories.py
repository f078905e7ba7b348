"""Real git repositories, away from this machine's settings."""

import os
import subprocess
from pathlib import Path

_WHO = {"NAME": "A. Author", "EMAIL": "author@example.org"}
_ENVIRONMENT = {
    **{
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in _WHO.items()
    },
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(folder: Path, *words: str | Path) -> None:
    """Run git as it is."""
    subprocess.run(
        ["git", "-C", folder, *words],
        env={**os.environ, **_ENVIRONMENT}, check=True, capture_output=True,
    )  # fmt: skip


def repository(folder: Path) -> Path:
    """A new repository in a folder that may be there."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main")
    return folder


def commit(folder: Path) -> None:
    """Commit all there is."""
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "--allow-empty", "-m", "a commit")


def put(folder: Path, *names: str, data: bytes = b"x = 1\n") -> None:
    """Write files."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def trap(folder: Path) -> tuple[Path, Path]:
    """A program that a repository may name, and the mark that it leaves when it runs."""
    program, mark = folder / "trap", folder / "sprung"
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\ncat\n")
    program.chmod(0o755)
    return program, mark
