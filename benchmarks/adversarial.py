"""Do discriminators pay? The small backbone, trained for an equal time with and without them, and scored.

    python -m benchmarks.adversarial --discriminators --data CORPUS --minutes 45 --output FOLDER &
    python -m benchmarks.adversarial --no-discriminators --data CORPUS --minutes 45 --output FOLDER

Time is the CPU time of the training's one thread, which other processes disturb less than the clock. The
learning rate is constant and the average of weights is scored, so that a training can be cut at any time;
`--marks` says after how many minutes each. Both begin with the same `--warm-steps` without quantization (a
codebook of features that mean nothing yet collapses), which count; all but the discriminators is the same.
Started again, a training goes on where it was.
"""

import argparse
import contextlib
import dataclasses
import json
import shutil
import time
from pathlib import Path

import torch

from codec.model import Codec
from experiments import data
from experiments.common import tensor_files
from experiments.evaluation import test_set as assess
from experiments.studies import study as studies
from experiments.studies.runs import CorpusIdentity, Run, expand
from experiments.studies.sections import ObjectiveChoice
from experiments.training import distributed as processes
from experiments.training.checkpoint import Checkpoint
from experiments.training.loop import train
from experiments.training.observer import Interrupted, Observer

METRICS = ("pesq", "stoi", "mel_distance", "dnsmos_ovrl", "dnsmos_sig")
TRAIN = {
    "steps": 1_000_000,  # cut by the time
    "batch_size": 4,
    "crop_seconds": 1.0,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "betas": [0.8, 0.99],
    "warmup_steps": 100,
    "final_learning_rate": 1.0,
    "gradient_clip": 5.0,
    "ema_decay": 0.998,
    "discriminator_learning_rate": 5e-4,
    "precision": "fp32",
    "log_every": 50,
    "validate_every": 200,
    "checkpoint_every": 20,
}
ADVERSARY = {
    "multi_resolution": 0.1,
    "multi_resolution_features": 0.1,
    "discriminator_width": 0.25,
}


class Clock(Observer):
    """Stops after the last of `marks` (CPU minutes), and keeps the state of each."""

    def __init__(self, folder: Path, marks: list[float]) -> None:
        self.folder, self.marks, self.before = folder, sorted(marks), 0.0
        self.clock = folder / "minutes.txt"  # of earlier sittings, up to the last saved state
        if self.clock.exists():
            self.before = float(self.clock.read_text())

    def minutes(self) -> float:
        return self.before + time.process_time() / 60

    def saving(self, step: int) -> None:
        self.clock.write_text(str(self.minutes()))

    def metrics(self, step, values) -> None:
        line = {"minutes": self.minutes(), "step": step, **values}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def progress(self, step: int, steps: int, text: str) -> None:
        state = self.folder / "state.safetensors"
        while len(self.marks) > 1 and self.minutes() > self.marks[0]:
            kept = self.folder / f"{self.marks.pop(0):g}.safetensors"
            if state.exists() and not kept.exists():
                shutil.copy(state, kept)

    def should_stop(self) -> bool:
        return self.minutes() > self.marks[-1]


def _quiet(done: int, total: int) -> None:
    pass


def _train(run: Run, codec: Codec, shards: data.Shards, state_path: Path, clock: Clock) -> None:
    train(
        codec,
        run.train,
        train_split=shards.split("train"),
        validation_split=shards.split("validation"),
        seed=0,
        fabric=processes.single(torch.device("cpu")),
        checkpoint=Checkpoint(state_path, run.training_identity),
        observers=[clock],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--discriminators", action=argparse.BooleanOptionalAction, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--marks", type=float, nargs="*", default=[])
    parser.add_argument("--warm-steps", type=int, default=1000)
    parser.add_argument("--discriminator-start", type=int, default=500, help="step after the warm ones")
    parser.add_argument("--quantizer", default="rvq")
    parser.add_argument("--bits", type=float, default=40, help="a frame of 1/75 s")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    adversary = {**ADVERSARY, "discriminator_start": arguments.discriminator_start}
    objective = {"name": "spectral", "options": adversary if arguments.discriminators else {}}
    shards = data.prepare(arguments.data, sample_rate=24_000)
    corpus = CorpusIdentity(
        spec=arguments.data, name=shards.name, content_hash=shards.content_hash, synthetic=shards.synthetic
    )
    study = studies.check(
        {
            "name": "adversarial",
            "quantizers": ["none", {"name": arguments.quantizer, "bits": arguments.bits}],
            "backbone": "wavtokenizer-small",
            "data": arguments.data,
            "train": TRAIN,
        },
        "adversarial",
    )
    warm, run = expand(study, corpus)
    warm = dataclasses.replace(
        warm, train=warm.train.model_copy(update={"steps": arguments.warm_steps, "ema_decay": 0.0})
    )
    chosen = ObjectiveChoice.model_validate(objective)
    run = dataclasses.replace(run, train=run.train.model_copy(update={"objective": chosen}))
    folder = arguments.output / ("with" if arguments.discriminators else "without")
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(folder, [*arguments.marks, arguments.minutes])
    if not (folder / f"{arguments.minutes:g}.safetensors").exists():
        backbone, codec = warm.codec(), run.codec()
        _train(warm, backbone, shards, folder / "warm.safetensors", clock)
        codec.encoder.load_state_dict(backbone.encoder.state_dict())
        codec.decoder.load_state_dict(backbone.decoder.state_dict())
        state = folder / "state.safetensors"
        with contextlib.suppress(Interrupted):
            _train(run, codec, shards, state, clock)
        state.rename(folder / f"{arguments.minutes:g}.safetensors")
    for minutes in sorted({*arguments.marks, arguments.minutes}, reverse=True):
        kept = folder / f"{minutes:g}.safetensors"
        if not kept.exists():  # a mark within the warm steps
            continue
        tensors, metadata = tensor_files.read(kept)
        codec = run.codec()
        prefix = "average/model."
        codec.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        made = assess.reconstruct(codec.eval(), shards.split("test"), _quiet)
        scores, values = assess.quality(made, 24_000, METRICS, _quiet, arguments.output / "references")
        shown = {"minutes": minutes, "progress": json.loads(metadata["progress"]), **values}
        with (folder / "scores.jsonl").open("a") as file:
            file.write(json.dumps(shown) + "\n")
        scores.to_parquet(folder / f"{minutes:g}.parquet", index=False)
        print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    main()
