"""Files of the runs of a study: copies on this machine of what the tracking store has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from experiments.tracking import places
from experiments.tracking.errors import explained

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository


@dataclass(frozen=True)
class RunFiles:
    """Artifacts of runs. What lies on this machine is read where it is, anything else is downloaded once.

    uri: the store. addresses: where the artifacts of each run are. downloads: a folder for copies.
    """

    uri: str
    addresses: Mapping[str, str]
    downloads: Path
    _copies: dict[tuple[str, str], Path] = field(default_factory=dict, repr=False, compare=False)
    _listed: dict[tuple[str, str], set[str]] = field(default_factory=dict, repr=False, compare=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In another process, with a folder for downloads of its own."""
        self.__dict__.update(state, downloads=state["downloads"] / f"process-{os.getpid()}")

    def listed(self, run_id: str, folder: str = ".") -> set[str]:
        """Paths of what is in a folder of a run's artifacts; "." is the topmost. Raises TrackingError."""
        if (run_id, folder) not in self._listed:
            self._listed[run_id, folder] = self._list(run_id, folder)
        return self._listed[run_id, folder]

    def get(self, run_id: str, path: str) -> Path | None:
        """One artifact as a file of this machine, which is not to be changed; None when the run has none of
        that name. Raises TrackingError."""
        if path not in self.listed(run_id, str(PurePosixPath(path).parent)):
            return None
        if (run_id, path) not in self._copies:
            self._copies[run_id, path] = self._fetch(run_id, path)
        return self._copies[run_id, path]

    def looked_in(self, run_id: str) -> str:
        """Where files of a run are looked for, in words."""
        folders = places.candidates(self.addresses[run_id], self.uri)
        # Beside the store's file most have mlruns, or a folder like it, with three more below it.
        beside = f", nor in {folders[max(1, len(folders) - 3)]}" if folders[1:] else ""
        return f"{self.addresses[run_id]}{beside}"

    def _list(self, run_id: str, folder: str) -> set[str]:
        place = places.current(self.addresses[run_id], self.uri)
        with explained(self.uri):
            if place is None:
                entries = self._repository(run_id).list_artifacts(None if folder == "." else folder)
                return {str(entry.path) for entry in entries}
            whole = place / folder
            there = whole.iterdir() if whole.is_dir() else ()
            return {path.relative_to(place).as_posix() for path in there}

    def _fetch(self, run_id: str, path: str) -> Path:
        place = places.current(self.addresses[run_id], self.uri)
        if place is not None:
            return place / path
        target = self.downloads / run_id / PurePosixPath(path).parent
        target.mkdir(parents=True, exist_ok=True)
        with explained(self.uri):
            return Path(self._repository(run_id).download_artifacts(path, str(target)))

    def _repository(self, run_id: str) -> ArtifactRepository:
        """By its place, which is known: the client would read the whole run again for every file."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(self.addresses[run_id], tracking_uri=self.uri)
