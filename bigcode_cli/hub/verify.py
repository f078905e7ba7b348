"""Read a model again from end to end: hashes, headers, names, shapes, numbers, tokenizer."""

from dataclasses import dataclass
from pathlib import Path

from bigcode_cli.errors import ModelCorruptError, ModelIncompleteError
from bigcode_cli.hub.contents import TOKENIZER_NAME, find_weights, is_index
from bigcode_cli.hub.download import CHUNK_BYTES, new_hash
from bigcode_cli.hub.listing import is_object_id
from bigcode_cli.hub.weights import load_as_stored
from bigcode_cli.model.config import CONFIG_NAME, GPTBigCodeConfig
from bigcode_cli.model.tensor_index import read_tensor_index
from bigcode_cli.records import ModelFolder, Reporter
from bigcode_cli.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """A file that was read to its end.

    Attributes:
        digest: the hash that it was found to have, where the cache knows which it must be.
    """

    name: str
    size: int
    digest: str | None


@dataclass(frozen=True, slots=True)
class Verified:
    """A model with nothing wrong.

    Attributes:
        tensors: how many were read, all their numbers finite.
    """

    folder: ModelFolder
    files: tuple[VerifiedFile, ...]
    tensors: int


def verify(folder: ModelFolder, report: Reporter) -> Verified:
    """Read all of a model and check it.

    The weights are mapped, not loaded, but for those in int8 storage, which are converted.

    Raises:
        ModelCorruptError, ModelIncompleteError, ModelUnsupportedError: the first thing that is
            wrong, by name.
    """
    GPTBigCodeConfig.from_file(folder.path)
    Tokenizer.load(folder.tokenizer_path)
    paths = [folder.path / CONFIG_NAME, folder.tokenizer_path / TOKENIZER_NAME]
    for one in (folder.path, folder.base):
        paths += [] if one is None else _weight_files(one)
    files = tuple(_check_file(folder, path, report) for path in paths)
    # Loading names every tensor that is missing, surplus, misshapen or not finite.
    model = load_as_stored(folder, f"checking the numbers of {folder.name}", report)
    return Verified(folder, files, tensors=sum(1 for _ in model.parameters()))


def _weight_files(folder: Path) -> list[Path]:
    """The index of a folder's weights, if it has one, and the files that hold them."""
    files = list(read_tensor_index(folder).files)
    entry = find_weights([path.name for path in folder.iterdir()])
    return [folder / entry, *files] if entry is not None and is_index(entry) else files


def _check_file(folder: ModelFolder, path: Path, report: Reporter) -> VerifiedFile:
    """Compare a file with the hash that its blob in the cache is named by."""
    try:
        size = path.stat().st_size
        digest = path.resolve().name
        if folder.revision is None or not is_object_id(digest):
            return VerifiedFile(path.name, size, None)
        found = new_hash(digest, size)
        done = 0
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                found.update(chunk)
                done += len(chunk)
                report.progress(f"checking {path.name}", done, size, "B")
    except OSError as error:
        raise ModelIncompleteError(f"{path} cannot be read: {error.strerror}") from error
    if found.hexdigest() != digest:
        raise ModelCorruptError(
            f"{path.name} of {folder.name} is damaged: its hash is not {digest[:12]}…",
            f"run `bigcode models remove {folder.name}` and pull it again",
        )
    return VerifiedFile(path.name, size, digest)
