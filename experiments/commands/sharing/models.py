"""The work of `codecbench push` and `pull`: a run's model into a folder or a hub, and back."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from codec import backbones
from experiments.commands import outputs
from experiments.commands.sharing import hub, model_card
from experiments.commands.sharing.places import Repository
from experiments.common import tensor_files
from experiments.common.run_folder import WEIGHTS
from experiments.tracking.models import shared_folder, trained_codecs
from experiments.tracking.named_runs import RunError, label_of, the_run
from experiments.tracking.schema import FINISHED, KIND_STUDY, Tag, status_of
from experiments.tracking.stored import StoredRun


def push(
    given: str,
    target: Repository | Path,
    *,
    uri: str,
    runs_folder: Path,
    private: bool = False,
    licence: str = "",
    quiet: bool = False,
) -> str:
    """Write the model of a run and its card to `target`; the address of what was written.

    given: id or hash of the run, or the beginning of one. Raises RunError, DamagedFile, HubError,
    OutputError, TrackingError.
    """
    if isinstance(target, Repository):
        hub.require_token()
    else:
        _check_folder(target)
    run, study = the_run(given, uri)
    status, _ = status_of(run)
    if run.data.tags.get(Tag.KIND) == KIND_STUDY or run.data.tags.get(Tag.REFERENCE) == "true":
        raise RunError(
            f"{label_of(run)} is no training of a quantizer; `codecbench runs {study}` lists those"
        )
    if status != FINISHED:
        raise RunError(
            f"{label_of(run)} is not finished ({status or 'no status'}); only finished runs are shared"
        )
    with (
        trained_codecs.weights_of(run, study, uri, runs_folder) as weights,
        tempfile.TemporaryDirectory() as temporary,
    ):
        made = Path(temporary) / "model"
        source = str(target) if isinstance(target, Repository) else target.resolve().name
        _write(made, run, study, weights, licence, source)
        if isinstance(target, Repository):
            message = f"{label_of(run)}, from the study {study} by codecbench"
            return hub.upload(made, target, private=private, message=message, quiet=quiet)
        _put(made, target)
        return str(target)


def pull(
    source: Repository | Path, target: Path, *, revision: str | None = None, quiet: bool = False
) -> shared_folder.ModelConfig:
    """Fetch a shared model into the folder `target`, and check that it loads. What is fetched are three
    files: weights, their configuration, the card.

    Raises RunError for what is no shared model, HubError, OutputError.
    """
    _check_folder(target)
    with tempfile.TemporaryDirectory() as temporary:
        fetched = Path(temporary)
        if isinstance(source, Repository):
            hub.download(source, fetched, revision=revision, quiet=quiet)
        else:
            _copy(source, fetched)
        config = shared_folder.read_config(fetched)
        trained_codecs.load_trained(fetched)
        _put(fetched, target)
    return config


def _write(folder: Path, run: StoredRun, study: str, weights: Path, licence: str, source: str) -> None:
    _, metadata = tensor_files.read(weights)
    try:
        config = json.loads(metadata["config"])
        sizes = dict(config["backbone"])
        quantizer = {key: config["quantizer"][key] for key in ("name", "options")}
        rest = {key: value for key, value in sizes.items() if key != "name"}
        sample_rate = backbones.get(sizes["name"], rest).sample_rate
        seed = int(config["seed"])
    except (KeyError, ValueError, TypeError):
        raise RunError(f"{weights} does not say what it holds; train the run again to share it") from None
    tags, stages = run.data.tags, run.data.params.get(trained_codecs.STAGES, "")
    values: dict[str, Any] = {
        "label": tags.get(Tag.LABEL) or run.info.run_name,
        "study": study,
        "seed": seed,
        "run_hash": tags.get(Tag.RUN_HASH, ""),
        "training_hash": tags.get(Tag.TRAINING_HASH, ""),
        "sample_rate": sample_rate,
        "quantizer": quantizer,
        "backbone": sizes,
        "stages": int(stages) if stages.isdecimal() else None,
    }
    card = model_card.card(
        run, study, {"quantizer": quantizer, "backbone": sizes}, licence=licence, source=source
    )
    shared_folder.write(folder, weights, card, values)


def _check_folder(folder: Path) -> None:
    """See that `folder` is new or empty, or holds a shared model. Raises OutputError."""
    outputs.check_folder(folder, "the folder")
    if folder.is_dir() and any(folder.iterdir()) and not shared_folder.is_shared(folder):
        raise outputs.OutputError(
            f"{folder} holds other files. Remedy: name a new folder, or one with a shared model, which is "
            "replaced"
        )


def _put(made: Path, target: Path) -> None:
    """Move the files of a shared model into `target`, the configuration last."""
    target.mkdir(parents=True, exist_ok=True)
    (target / shared_folder.CONFIG).unlink(missing_ok=True)
    for name in (WEIGHTS, shared_folder.CARD, shared_folder.CONFIG):
        if (made / name).exists():
            shutil.copyfile(made / name, target / name)


def _copy(source: Path, folder: Path) -> None:
    if not shared_folder.is_shared(source):
        raise RunError(f"{source} is no folder of a shared model: it has no {shared_folder.CONFIG}")
    for name in shared_folder.FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
