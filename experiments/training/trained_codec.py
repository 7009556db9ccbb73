"""The trained codec of a run: read from its folder, or trained now, alone or with other processes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from codec.model import Codec
from experiments import data
from experiments.common import run_folder
from experiments.common.atomic_files import write_text
from experiments.data.dataset import Shards
from experiments.studies.runs import Run
from experiments.training import distributed as processes
from experiments.training import latent_snapshots as snapshots
from experiments.training import state as training_state
from experiments.training.loop import train
from experiments.training.observer import Observer, Trained

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def obtain(
    run: Run, directory: Path, *, fabric: "Fabric", observer: Observer, run_id: str = ""
) -> tuple[Codec, Trained, Shards]:
    """The codec of `run`, how it was trained, and its corpus. Of several processes, each calls this, and the
    first gets the trained codec.

    directory: of all runs; each has a folder named by its training's hash. observer, run_id, and what is
    raised: as in `train`.
    """
    shards = data.prepare(run.corpus.spec, sample_rate=run.sample_rate)
    if shards.content_hash != run.corpus.content_hash:
        raise RuntimeError(f"the corpus {run.corpus.spec} changed while the study ran")
    codec = run.codec()
    folder = directory / run.training_hash
    trained: Trained | None = _read(folder, codec) if fabric.is_global_zero else None
    trained = processes.from_first(fabric, trained)
    if trained is not None:
        observer.restored(trained.steps)
        return codec.to(fabric.device), trained, shards
    _load_warm_start(codec, run, directory)
    if fabric.is_global_zero:
        observer = snapshots.watched(codec, run, shards.split("validation"), folder, observer)
    state_path = folder / run_folder.STATE
    trained = train(
        codec,
        run.train,
        train_split=shards.training(),
        validation_split=shards.split("validation"),
        seed=run.seed,
        configuration=run.training_identity,
        state_path=state_path,
        observer=observer,
        fabric=fabric,
        run_id=run_id,
    )
    if fabric.is_global_zero:
        weights, summary = folder / run_folder.WEIGHTS, folder / run_folder.SUMMARY
        config = {"config": json.dumps(run.resolved())}
        training_state.write_safetensors(weights, codec.state_dict(), config)
        write_text(summary, json.dumps(asdict(trained)))  # it says that the training is over
        state_path.unlink(missing_ok=True)
    return codec, trained, shards


def _read(folder: Path, codec: Codec) -> Trained | None:
    if not run_folder.is_trained(folder):
        return None
    tensors, _ = training_state.read_safetensors(folder / run_folder.WEIGHTS)
    codec.load_state_dict(tensors)
    return Trained(**json.loads((folder / run_folder.SUMMARY).read_text(encoding="utf-8")))


def _load_warm_start(codec: Codec, run: Run, directory: Path) -> None:
    warm = run.warm_start()
    if warm is None:
        return
    tensors, _ = training_state.read_safetensors(directory / warm.training_hash / run_folder.WEIGHTS)
    for part in ("encoder", "decoder"):
        prefix = f"{part}."
        mine = {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
        codec.get_submodule(part).load_state_dict(mine)
