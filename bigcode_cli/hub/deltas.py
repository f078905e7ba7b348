"""Folders that hold only what differs from another model, and how they name that one.

Their ``config.json`` is a whole one with three more keys: ``base_model_name_or_path`` is a built-in
name, a Hub id or the path of a folder; ``base_model_revision`` the commit of a model on the Hub;
``base_model_sha256`` the digest of the other's weights and tokenizer. Such a folder has no
tokenizer of its own.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from bigcode_cli.errors import ModelCorruptError
from bigcode_cli.hub.contents import TOKENIZER_NAME
from bigcode_cli.hub.names import BUILTIN_MODELS
from bigcode_cli.model.config import BASE_KEY, CONFIG_NAME, GPTBigCodeConfig
from bigcode_cli.model.files import folder_file, read_json
from bigcode_cli.model.tensor_index import read_tensor_index
from bigcode_cli.records import ModelFolder

_NAME_KEY = "base_model_name_or_path"
_REVISION_KEY = "base_model_revision"


@dataclass(frozen=True, slots=True)
class Delta:
    """What a folder differs from, as it says itself.

    Attributes:
        base: a built-in name, a Hub id or a path.
        revision: of a model on the Hub.
        sha256: see ``base_digest``.
    """

    base: str
    revision: str | None
    sha256: str

    def check(self, name: str, base: ModelFolder) -> None:
        """Refuse another base than the one that the folder was made on.

        Weights are read to tell, but for those of a commit on the Hub that the folder names: they
        are always the same, and may be many gigabytes.

        Args:
            name: of the model, for the message.

        Raises:
            ModelCorruptError: this is not it.
            ModelError: it cannot be read.
        """
        if base.revision is not None and (base.name, base.revision) == (self.base, self.revision):
            return
        if base_digest(base.path) != self.sha256:
            raise ModelCorruptError(
                f"{name} was made on other weights or another tokenizer than those of its base",
                f"the base was {self.base:.300}; name the right one with --base, or train again",
            )


def read_delta(folder: Path) -> Delta | None:
    """What a folder differs from; ``None`` of a model that is whole, or of none.

    Raises:
        ModelCorruptError: ``config.json`` is malformed.
        ModelIncompleteError: it cannot be read.
    """
    if not os.path.lexists(folder / CONFIG_NAME):
        return None
    values = read_json(folder, CONFIG_NAME)
    if BASE_KEY not in values:
        return None
    base, revision = values.get(_NAME_KEY), values.get(_REVISION_KEY)
    digest = values[BASE_KEY]
    if not isinstance(base, str) or not isinstance(digest, str):
        raise ModelCorruptError(f"{folder / CONFIG_NAME} does not say which model it differs from")
    if revision is not None and not isinstance(revision, str):
        raise ModelCorruptError(f"{folder / CONFIG_NAME}: {_REVISION_KEY} is no text")
    return Delta(base, revision, digest)


def base_keys(base: ModelFolder) -> dict[str, str]:
    """What a configuration is to say of the model that its folder differs from.

    Raises:
        ModelError: that one cannot be read.
    """
    is_named = base.revision is not None or base.name in BUILTIN_MODELS
    name = base.name if is_named else str(base.path.resolve())
    keys = {_NAME_KEY: name, BASE_KEY: base_digest(base.path)}
    return keys if base.revision is None else {**keys, _REVISION_KEY: base.revision}


def without_base(config: GPTBigCodeConfig) -> GPTBigCodeConfig:
    """The configuration of a model that needs no other any more."""
    own = {_NAME_KEY, _REVISION_KEY, BASE_KEY}
    kept = {key: value for key, value in config.extra.items() if key not in own}
    return config.with_changes(extra=kept)


def base_digest(folder: Path) -> str:
    """SHA-256, in hexadecimal, over those of the tokenizer and of each file of the weights.

    Raises:
        ModelError: a file is missing or malformed.
    """
    whole = hashlib.sha256()
    for path in (folder_file(folder, TOKENIZER_NAME), *sorted(read_tensor_index(folder).files)):
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
