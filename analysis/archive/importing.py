"""Put the studies of an archive into a tracking store: all of it is checked before anything is stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from analysis.archive.files import Points
from analysis.archive.format import Entry, readable
from analysis.archive.members import Archive, checked, opened
from experiments.tracking.addresses import store_uri
from experiments.tracking.reader import reader
from experiments.tracking.schema import Tag
from experiments.tracking.store import Store
from experiments.tracking.whole_runs import WholeRun, put

Progress = Callable[[str, int, int], None]  # a stage, how far it is, and of how much


def _nobody(*_: object) -> None:
    pass


def import_archive(
    path: Path, tracking_uri: str | None = None, *, progress: Progress = _nobody
) -> tuple[int, int]:
    """Put the runs of an archive into a tracking store; returns how many were new, and how many there before.

    A run that only half arrived, since an import was stopped, is put in again.

    Raises:
        ArchiveError: no archive, a damaged one, one that `export` did not write, or of a newer codecbench.
            Nothing is stored then.
        TrackingError: the store does not answer, or refuses.
    """
    uri = store_uri(tracking_uri)
    with opened(path) as zipped:
        archive = checked(zipped, str(path), partial(progress, "checking"))
        entries = archive.listing.runs
        stores = {study: Store(uri, study) for study in dict.fromkeys(entry.study for entry in entries)}
        ids = _there(next(iter(stores.values()))) if stores else {}
        new = [_whole(entry, archive) for entry in entries if entry.id not in ids]
        for number, _ in enumerate(put(new, stores, ids), 1):
            progress("importing", number, len(new))
    return len(new), len(entries) - len(new)


def _there(store: Store) -> dict[str, str]:
    """Runs by what they were in the archive: imported before, or the store's own. Half ones are deleted."""
    known = reader(store.uri)
    found = {}
    for run in known.runs([one.experiment_id for one in known.experiments()], metrics=()):
        origin = run.data.tags.get(Tag.ORIGIN)
        if origin and Tag.IMPORTED not in run.data.tags:
            store.patiently(partial(store.client.delete_run, run.info.run_id))
        else:
            found[origin or run.info.run_id] = run.info.run_id
    return found


def _whole(entry: Entry, archive: Archive) -> WholeRun:
    curves: Points = archive.curves.get(entry.id, ())
    drawn = {metric for metric, _, _ in curves}
    last = [(key, 0, value) for key, value in entry.metrics.items() if key not in drawn]
    return WholeRun(
        origin=entry.id,
        study=entry.study,
        name=entry.name,
        status=entry.status,
        start_time=entry.start_time,
        end_time=entry.end_time,
        tags=readable(entry.tags),
        params=entry.params,
        points=[*curves, *last],
        write_files=partial(archive.write_files, entry.id),
    )
