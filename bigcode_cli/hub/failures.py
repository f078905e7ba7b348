"""What goes wrong between here and the Hub, as leaves of our own error tree."""

import errno
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bigcode_cli.errors import (
    BigcodeError,
    ModelError,
    ModelGatedError,
    ModelIncompleteError,
    ModelNotFoundError,
    ModelOfflineError,
    ModelTooLargeError,
)
from bigcode_cli.hub import cache

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that are worth asking again for."""


@contextmanager
def hub_errors(repo: str, revision: str | None) -> Iterator[None]:
    """Turn what huggingface_hub and its HTTP client raise into leaves, and keep both silent."""
    with quiet_client():
        try:
            yield
        except BigcodeError:
            raise
        except Exception as error:
            leaf = _as_leaf(error, repo, revision)
            if leaf is None:
                raise
            raise leaf from error


@contextmanager
def quiet_client() -> Iterator[None]:
    """Keep huggingface_hub's warnings and log lines off the terminal, and its telemetry at home.

    What it would tell the Hub (other libraries, a guess at who runs the program) is not needed for
    a download, and the guess costs a request of its own.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from huggingface_hub import constants
        from huggingface_hub.utils import logging as client_logging

        level, telemetry = client_logging.get_verbosity(), constants.HF_HUB_DISABLE_TELEMETRY
        client_logging.set_verbosity(logging.CRITICAL + 1)
        constants.HF_HUB_DISABLE_TELEMETRY = True
        try:
            yield
        finally:
            client_logging.set_verbosity(level)
            constants.HF_HUB_DISABLE_TELEMETRY = telemetry


def _as_leaf(error: Exception, repo: str, revision: str | None) -> BigcodeError | None:
    """Our leaf for an error of the client or the disk; ``None`` for what is a bug."""
    from huggingface_hub import errors

    page = f"{endpoint()}/{repo}"
    match error:
        case errors.GatedRepoError():
            return _gated(repo, page)
        case errors.RevisionNotFoundError():
            return ModelNotFoundError(f"{repo} has no revision {revision!r}", f"see {page}")
        case errors.RemoteEntryNotFoundError():
            return ModelIncompleteError(f"{repo} lacks a file that the Hub lists", f"see {page}")
        case errors.DisabledRepoError():
            return ModelNotFoundError(f"the Hub has disabled {repo}", f"see {page}")
        case errors.RepositoryNotFoundError():
            return _unknown(repo)
        case errors.HfHubHTTPError():
            return _refused(error, repo)
    if is_transport_error(error):
        return ModelOfflineError(
            f"cannot reach the Hub at {endpoint()} for {repo} ({type(error).__name__})",
            "check the network and pull again: what has arrived is kept",
        )
    return _disk_error(error) if isinstance(error, OSError) else None


def _gated(repo: str, page: str) -> ModelGatedError:
    from huggingface_hub import get_token

    if get_token() is None:
        return ModelGatedError(
            f"{repo} is gated: its conditions must be accepted first",
            f"accept them at {page}, then set HF_TOKEN or run `hf auth login`",
        )
    return ModelGatedError(
        f"{repo} is gated, and this token's account has no access to it",
        f"accept the conditions at {page}, or use the token of an account that has",
    )


def _unknown(repo: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"no model {repo} on the Hub",
        "check the spelling; a private model needs HF_TOKEN or `hf auth login`",
    )


def _refused(error: "HfHubHTTPError", repo: str) -> ModelError:
    from huggingface_hub import get_token

    status = error.response.status_code
    if status == 401 and get_token() is None:
        return _unknown(repo)  # what the Hub says to a stranger of a model that is not there
    if status in {401, 403}:
        return ModelGatedError(
            f"the Hub refused the token for {repo} ({status})",
            "correct HF_TOKEN or run `hf auth login` again",
        )
    return ModelOfflineError(
        f"the Hub answered {status} for {repo}", "pull again later: what has arrived is kept"
    )


def _disk_error(error: OSError) -> ModelError:
    folder = cache.cache_folder()
    hint = "set HF_HOME to a folder on another disk"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ModelTooLargeError(f"the disk of {folder} is full", hint)
    return ModelError(f"cannot use the cache {folder}: {error.strerror or error}", hint)


def not_here_error(repo: str) -> ModelOfflineError:
    """The model is not here, and the network may not be asked for it."""
    return ModelOfflineError(
        f"model {repo} is not on this machine",
        f"`bigcode models pull {repo}` fetches it, with the network on",
    )


def endpoint() -> str:
    """The Hub's address: ``https://huggingface.co`` or ``HF_ENDPOINT``."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def is_transport_error(error: BaseException) -> bool:
    """Whether the HTTP client raised this (httpx before huggingface_hub 2, httpx2 since then)."""
    return any(
        base.__name__ == "TransportError" and base.__module__ in {"httpx", "httpx2"}
        for base in type(error).__mro__
    )


def is_transient(error: Exception) -> bool:
    """Whether asking again may help."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in TRANSIENT_STATUS
    return is_transport_error(error)
