"""The trained codec of a run: read from its folder, or trained now, alone or with other processes."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from codec.model import Codec
from experiments import data
from experiments.common import run_folder, tensor_files
from experiments.common.atomic_files import write_text
from experiments.common.tensor_files import DamagedFile
from experiments.data.dataset import Shards
from experiments.studies.runs import Run
from experiments.training import distributed
from experiments.training.checkpoint import Checkpoint
from experiments.training.fitted_options import fitted
from experiments.training.latent_snapshots import latent_snapshots
from experiments.training.loop import train
from experiments.training.observer import Observer, Trained
from experiments.training.on_device.arithmetic import arithmetic
from experiments.training.starting_weights import load_backbone, start_from_data
from experiments.training.state import check_fit
from experiments.training.validation import check_finite

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_log = logging.getLogger("codecbench.train")


def obtain(
    run: Run,
    directory: Path,
    *,
    fabric: "Fabric",
    observers: Sequence[Observer] = (),
    run_id: str = "",
    threads: int | None = None,
) -> tuple[Codec, Trained, Shards]:
    """The codec of `run`, how it was trained, and its corpus. Of several processes, each calls this, and the
    first gets the trained codec.

    directory: of all runs; each has a folder named by its training's hash. observers, run_id, threads, and
    what is raised: as in `train`.
    """
    shards = data.unchanged(run.corpus.spec, run.corpus.content_hash, sample_rate=run.sample_rate)
    folder = directory / run.training_hash
    run = fitted(run, directory, shards.training(), fabric)
    codec = run.codec()
    checkpoint = Checkpoint(folder / run_folder.STATE, run.training_identity, run_id)
    trained: Trained | None = _read(folder, codec) if fabric.is_global_zero else None
    trained = distributed.from_first(fabric, trained)
    if trained is not None:
        if fabric.is_global_zero:
            checkpoint.remove()
        for observer in observers:
            observer.restored(trained.steps)
        return codec.to(fabric.device), trained, shards
    load_backbone(codec, run, directory)
    if run.train.start == "data":  # a state that there is takes its place
        with arithmetic(run.train, fabric.device):
            start_from_data(codec, shards.training(), run, fabric)
    if fabric.is_global_zero:
        observers = [*observers, *latent_snapshots(codec, run, shards.split("validation"), folder)]
    trained = train(
        codec,
        run.train,
        train_split=shards.training(),
        validation_split=shards.split("validation"),
        seed=run.seed,
        fabric=fabric,
        checkpoint=checkpoint,
        observers=observers,
        threads=threads,
    )
    if fabric.is_global_zero:
        config = {"config": json.dumps(run.resolved())}
        tensor_files.write(folder / run_folder.WEIGHTS, codec.state_dict(), config)
        # The summary says that the training is over, so it comes after the weights.
        write_text(folder / run_folder.SUMMARY, json.dumps(asdict(trained)))
        checkpoint.remove()
    return codec, trained, shards


def _read(folder: Path, codec: Codec) -> Trained | None:
    """Load the trained weights in `folder` into `codec`; how they were trained, None where there are none.

    Damaged ones are removed, with a warning. Raises Diverged for some that are not finite.
    """
    if not run_folder.is_trained(folder):
        return None
    try:
        known = {field.name for field in fields(Trained)}  # a newer version may have written more
        summary = run_folder.summary(folder)
        trained = Trained(**{name: value for name, value in summary.items() if name in known})
        tensors, _ = tensor_files.read(folder / run_folder.WEIGHTS)
        check_fit(codec, tensors)
    except (DamagedFile, TypeError) as error:
        _log.warning("%s has damaged weights (%s); the training is done again", folder, error)
        run_folder.discard_trained(folder)
        return None
    codec.load_state_dict(tensors)
    check_finite(codec, trained.steps)
    return trained
