"""Transfer of shared models to and from a hub, by `huggingface_hub`, which keeps the token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands.sharing.places import Repository
from experiments.common.run_folder import WEIGHTS
from experiments.tracking.models import shared_folder

if TYPE_CHECKING:
    from types import ModuleType

_LIBRARY = "codecbench"
_REFUSED = (401, 403)
_NETWORK = ("httpx", "httpx2", "httpcore", "requests", "urllib3")  # whose errors mean that there is none


class HubError(ValueError):
    """A model cannot be sent or fetched; the message says what to do."""


def require_token() -> None:
    """See that the library is installed and has a token. Raises HubError."""
    if not _library().get_token():
        raise HubError(
            "there is no token for the hub. Remedy: make one that may write (https://huggingface.co/settings/"
            "tokens), then log in by `hf auth login` or put it into the variable HF_TOKEN"
        )


def upload(folder: Path, repository: Repository, *, private: bool, message: str, quiet: bool = False) -> str:
    """Send the files of a shared model to a repository, which is made where it is missing; its address.

    private: who sees a new repository. Raises HubError.
    """
    hub = _library(quiet)
    api = hub.HfApi(library_name=_LIBRARY)
    operations = [
        hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name)
        for name in shared_folder.FILES
    ]
    with _explained(repository, "sent"):
        api.create_repo(repository.identity, repo_type="model", private=private or None, exist_ok=True)
        api.create_commit(repository.identity, operations, commit_message=message, repo_type="model")
    return f"{api.endpoint}/{repository.identity}"


def download(
    repository: Repository, folder: Path, *, revision: str | None = None, quiet: bool = False
) -> None:
    """Fetch the files of a shared model into `folder`, and no others. Raises HubError, RunError.

    The configuration comes first: the weights of a repository that holds something else stay there.
    """
    hub = _library(quiet)
    with _explained(repository, "fetched"):
        commit = _fetch(hub, repository, shared_folder.CONFIG, folder, revision)
    shared_folder.read_config(folder)
    with _explained(repository, "fetched"):
        for name in (WEIGHTS, shared_folder.CARD):
            _fetch(hub, repository, name, folder, commit or revision)


def _fetch(hub: Any, repository: Repository, name: str, folder: Path, revision: str | None) -> str | None:
    """Fetch one file; the commit that it is of, so that all files are of one."""
    url = hub.hf_hub_url(repository.identity, name, revision=revision)
    commit = hub.get_hf_file_metadata(url).commit_hash
    hub.hf_hub_download(
        repository.identity, name, revision=commit or revision, local_dir=folder, library_name=_LIBRARY
    )
    return None if commit is None else str(commit)


def _library(quiet: bool = False) -> ModuleType:
    try:
        import huggingface_hub
    except ImportError:
        raise HubError(
            "models of a hub need the package huggingface_hub. Remedy: pip install 'codecbench[hub]', or use "
            "folder:PATH"
        ) from None
    if quiet:
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    return huggingface_hub


@contextmanager
def _explained(repository: Repository, done: str) -> Iterator[None]:
    """Turn what goes wrong into a HubError."""
    try:
        yield
    except Exception as error:
        told = [*_causes(error)]
        if type(error).__name__ == "LocalEntryNotFoundError":  # says less than why it was not fetched
            told = [*told[1:], error]
        said = next(filter(None, map(_explanation, told)), None)
        if said is None:
            raise
        raise HubError(f"{repository} cannot be {done}: {said}") from None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error`, and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__


def _explanation(error: BaseException) -> str | None:
    """What `error` means and what to do; None for one that is a fault of ours."""
    from huggingface_hub import constants, errors, get_token

    endpoint = constants.ENDPOINT
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.EntryNotFoundError) and status is not None:
        return "a file of a shared model is missing there; it is no model that `codecbench push` has written"
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision"
    if status in _REFUSED or isinstance(error, errors.RepositoryNotFoundError):
        why = f"{endpoint} does not accept the token" if get_token() else "it is not there, or not public"
        return (
            f"{why}. Remedy: check owner and name, then `hf auth login` with a token that may do this, or "
            "set HF_TOKEN"
        )
    if status is not None:
        return f"{endpoint} answers {status}: {_first_line(error, get_token())}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set. Remedy: unset it, or use folder:PATH"
    of_network = type(error).__module__.partition(".")[0] in _NETWORK
    if of_network or isinstance(error, ConnectionError | TimeoutError | errors.LocalEntryNotFoundError):
        return (
            f"{endpoint} cannot be reached ({type(error).__name__}). Remedy: check the network and "
            "HF_ENDPOINT, or use folder:PATH and copy the folder"
        )
    if type(error).__module__.partition(".")[0] == "huggingface_hub":
        return _first_line(error, get_token())
    return None


def _first_line(error: BaseException, token: str | None) -> str:
    """The first line of an error's message, without the token."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text.replace(token, "***") if token else text
