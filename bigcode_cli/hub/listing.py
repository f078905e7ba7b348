"""What a repository on the Hub holds: its commit, its files with sizes and hashes, its licence."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bigcode_cli import __version__
from bigcode_cli.errors import ModelIncompleteError, ModelOfflineError
from bigcode_cli.hub.card import choose_licence
from bigcode_cli.hub.failures import endpoint, hub_errors
from bigcode_cli.hub.names import is_commit

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

PROGRAM = "bigcode-cli"
"""What the Hub is told that asks it."""

LISTING_TIMEOUT_S = 10.0
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository.

    Attributes:
        size: in bytes.
        digest: its name in the cache: the SHA-256 of a large (LFS) file, the git object id of a
            small one.
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository holds at one commit.

    Attributes:
        files: by their path in the repository.
    """

    repo: str
    commit: str
    files: dict[str, RemoteFile]
    licence: str | None

    def find(self, name: str) -> RemoteFile:
        """The file of this name.

        Raises:
            ModelIncompleteError: the repository has none.
        """
        if name not in self.files:
            raise ModelIncompleteError(
                f"{self.repo} has no {name} on the Hub",
                "a model needs config.json, tokenizer.json and safetensors or .bin weights",
            )
        return self.files[name]


def list_files(repo: str, revision: str | None, *, timeout: float = LISTING_TIMEOUT_S) -> Listing:
    """Ask the Hub what a revision of a repository holds: one request.

    Raises:
        ModelError: unknown, gated, or out of reach.
    """
    with hub_errors(repo, revision):
        from huggingface_hub import HfApi

        try:
            api = HfApi(library_name=PROGRAM, library_version=__version__)
            info = api.model_info(repo, revision=revision, timeout=timeout, files_metadata=True)
            return _read_listing(repo, info)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, OSError):
                raise
            raise ModelOfflineError(
                f"{endpoint()} does not answer like the Hub",
                "check HF_ENDPOINT, and whether the network asks for a sign-in first",
            ) from error


def is_object_id(text: str) -> bool:
    """Whether this is a hash by which the Hub names a file: a SHA-256 or git's SHA-1."""
    return _OBJECT_ID.fullmatch(text) is not None


def _read_listing(repo: str, info: "ModelInfo") -> Listing:
    """Take over what is needed, each value checked: hashes will be file names."""
    files = {}
    for sibling in info.siblings or ():
        size = sibling.lfs.size if sibling.lfs else sibling.size
        digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        if size is None or size < 0 or digest is None or not is_object_id(digest):
            raise ValueError(f"no size and hash for {sibling.rfilename!r}")
        files[sibling.rfilename] = RemoteFile(sibling.rfilename, size, digest)
    if info.sha is None or not is_commit(info.sha):
        raise ValueError(f"no commit hash: {info.sha!r}")
    card = info.card_data
    licence = choose_licence(card.license, card.license_name) if card else None
    return Listing(repo, info.sha, files, licence or _tagged_licence(info))


def _tagged_licence(info: "ModelInfo") -> str | None:
    """The licence among the tags, for a card that names none itself."""
    tagged = [tag for tag in info.tags or () if tag.startswith("license:")]
    return choose_licence(tagged[0].removeprefix("license:"), None) if tagged else None
