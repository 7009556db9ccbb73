"""Tiny trainings in processes of their own.

training_worker.py kills MANIFEST FOLDER      one training killed at random moments, one left alone
training_worker.py ddp MANIFEST FOLDER NAMES  under torchrun: each rank writes what it trained
training_worker.py thaw MANIFEST FOLDER       under torchrun or alone: a frozen encoder that thaws
training_worker.py snapshots MANIFEST FOLDER  under torchrun: every quantizer with snapshots, as a run has it
training_worker.py waits SECONDS FOLDER       under torchrun: rank 0 works alone for longer than SECONDS, the
                                              patience of the other
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

import quantizers
from codec import backbones, model
from codec.model import Codec
from experiments import data
from experiments.common import tensor_files
from experiments.studies import runs, study
from experiments.studies.runs import CorpusIdentity
from experiments.studies.sections import Train
from experiments.training import distributed, trained_codec
from experiments.training.checkpoint import Checkpoint
from experiments.training.loop import train
from experiments.training.observer import Observer, Trained

KILLS = 10
ADVERSARY = {"name": "vocos", "options": {"discriminator_width": 0.05, "discriminator_start": 2}}


class Losses(Observer):
    """Remembers what was logged."""

    def __init__(self) -> None:
        self.logged: dict[int, dict[str, float]] = {}

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.logged.setdefault(step, {}).update(values)


class Told(Observer):
    """Writes each finished step, and where a sitting began, to a file, where a kill leaves them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def restored(self, step: int) -> None:
        self.write("restored", step)

    def progress(self, step: int, steps: int, text: str) -> None:
        self.write("step", step)

    def write(self, what: str, step: int) -> None:
        with self.path.open("a") as file:
            file.write(f"{what} {step}\n")


def run(codec: Codec, config: Train, manifest: str, folder: Path, observer: Observer, fabric) -> Trained:
    shards = data.prepare(f"manifest:{manifest}", sample_rate=codec.sample_rate)
    return train(
        codec,
        config,
        train_split=shards.split("train"),
        validation_split=shards.split("validation"),
        seed=0,
        fabric=fabric,
        checkpoint=Checkpoint(folder / "state.safetensors", config.model_dump(mode="json")),
        observers=[observer],
    )


def kills(manifest: str, folder: Path) -> None:
    """Prints the steps that each sitting began at and had seen, and the parameters that differ."""
    config = Train(
        steps=40, batch_size=2, warmup_steps=2, crop_seconds=0.25, checkpoint_every=2, log_every=1,
        validate_every=10, ema_decay=0.9, objective=ADVERSARY,
    )  # fmt: skip

    def sitting(place: Path) -> None:
        backbone = backbones.get("mdct-tiny", {"width": 32, "blocks": 1})
        codec = model.build(backbone, lambda dim: quantizers.create("vq", dim=dim, bits=10.0), seed=0)
        fabric = distributed.single(torch.device("cpu"))
        run(codec, config, manifest, place, Told(place / "told.txt"), fabric)
        torch.save(codec.state_dict(), place / "weights.pt")

    whole, parts = folder / "whole", folder / "parts"
    for place in (whole, parts):
        place.mkdir(parents=True)
    sitting(whole)
    told, moments = parts / "told.txt", random.Random(0)
    for _ in range(KILLS):
        told.touch()
        wanted = len(told.read_text().splitlines()) + moments.randint(1, 6)
        child = os.fork()
        if not child:
            sitting(parts)
            os._exit(0)
        while len(told.read_text().splitlines()) < wanted and not (parts / "weights.pt").exists():
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.05))  # within a step, or within a save
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if (parts / "weights.pt").exists():  # it was done before it was killed: begin again
            for name in ("weights.pt", "state.safetensors", "told.txt"):
                (parts / name).unlink(missing_ok=True)
    sitting(parts)
    mine, theirs = (torch.load(place / "weights.pt", weights_only=True) for place in (parts, whole))
    differing = [name for name in theirs if not torch.equal(mine[name], theirs[name])]
    told = (parts / "told.txt").read_text().split("\n")[:-1]
    print(json.dumps({"differing": differing, "told": told, "interval": config.checkpoint_every}))


def ddp(manifest: str, folder: Path, names: str) -> None:
    """Trains the small WavTokenizer with each of the quantizers."""
    fabric = distributed.launched("cpu")
    if fabric.world_size > 1:
        codec = model.build(
            backbones.get("mdct-tiny"), lambda dim: quantizers.create("none", dim=dim), seed=0
        )
        backend = dist.distributed_c10d._get_default_group()._get_backend(fabric.device)
        print(f"patience {backend.options._timeout}", flush=True)
        try:
            run(codec, Train(batch_size=3), manifest, folder, Losses(), fabric)
        except distributed.ProcessError as error:
            print(error, flush=True)
    for name in names.split(","):
        # Dropout draws other masks for other shapes, and revival other vectors.
        backbone = backbones.get("wavtokenizer-small", {"dropout": 0.0})
        codec = model.build(backbone, lambda dim, n=name: quantizers.create(n, dim=dim, bits=10.0), seed=0)
        config = Train(
            steps=3,
            batch_size=4,
            crop_seconds=0.25,
            log_every=1,
            objective={**ADVERSARY, "name": "wavtokenizer"},
            learning_rate=1e-3,
            precision="fp32",  # halves of a batch are rounded otherwise than the whole
        )
        place = folder / name / f"of_{fabric.world_size}"
        place.mkdir(parents=True, exist_ok=True)
        observer = Losses()
        run(codec, config, manifest, place, observer, fabric)
        torch.save(
            {"codec": codec.state_dict(), "logged": observer.logged}, place / f"{fabric.global_rank}.pt"
        )


def thaw(manifest: str, folder: Path) -> None:
    """Trains with an encoder that is frozen for the first two steps, for two steps and for four."""
    fabric = distributed.launched("cpu")
    for steps in (2, 4):
        backbone = backbones.get("mdct-tiny", {"width": 16, "blocks": 1})
        codec = model.build(backbone, lambda dim: quantizers.create("fsq", dim=dim, bits=10.0), seed=0)
        config = Train(
            steps=steps, batch_size=4, crop_seconds=0.25, warmup_steps=1, precision="fp32",
            freeze=["encoder"], freeze_steps=2, optimizer="adamw", learning_rate=1e-3,
        )  # fmt: skip
        begun = {name: value.clone() for name, value in codec.state_dict().items()}
        place = folder / f"of_{fabric.world_size}_{steps}"
        place.mkdir(parents=True, exist_ok=True)
        run(codec, config, manifest, place, Losses(), fabric)
        weights = {"begun": begun, "trained": codec.state_dict()}
        torch.save(weights, place / f"{fabric.global_rank}.pt")


def snapshots(manifest: str, folder: Path) -> None:
    """Trains with every quantizer that has codes, after a warm start; each rank prints a digest of its
    weights."""
    fabric = distributed.launched("cpu")
    spec = f"manifest:{manifest}"
    shards = data.prepare(spec, sample_rate=16_000)
    corpus = CorpusIdentity(spec=spec, name="", content_hash=shards.content_hash, synthetic=True)
    names = [name for name in quantizers.available() if name != "none"]
    asked = study.check(
        {
            "name": "snapshots",
            "quantizers": names,
            "bits": 12,
            "allow_rate_mismatch": True,
            "backbone": {"name": "mdct-tiny", "options": {"width": 16, "blocks": 1}},
            "train": {
                "steps": 4,
                "batch_size": 4,
                "crop_seconds": 0.25,
                "warmup_steps": 1,
                "validate_every": 2,
                "checkpoint_every": 2,
                "warm_start": {"steps": 2},
            },
            "evaluate": {"snapshots": 4},
        },
        "snapshots",
    )
    all_runs = runs.expand(asked, corpus)
    start = all_runs[0].warm_start()
    for each in [start, *all_runs]:
        codec, trained, _ = trained_codec.obtain(each, folder, fabric=fabric)
        name = "none" if each is start else each.quantizer
        sum_ = tensor_files.digest(codec.state_dict(), {})
        print(f"rank {fabric.global_rank} {name} {trained.steps} {sum_}", flush=True)


def waits(seconds: str, folder: Path) -> None:
    """Rank 0 prepares and scores alone, as `codecbench train` has it: at a barrier, then before it tells."""
    distributed.PATIENCE = timedelta(seconds=float(seconds))
    fabric = distributed.launched("cpu")
    for _ in range(2):
        if fabric.is_global_zero:
            time.sleep(5)
        fabric.barrier()
    if fabric.is_global_zero:
        time.sleep(5)
    told = distributed.from_first(fabric, fabric.global_rank)
    print(f"rank {fabric.global_rank} heard {told}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"kills": kills, "ddp": ddp, "thaw": thaw, "snapshots": snapshots, "waits": waits}[sys.argv[1]](
        sys.argv[2], Path(sys.argv[3]), *sys.argv[4:5]
    )
