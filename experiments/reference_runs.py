"""Reference codecs as runs of a study: scored on its test split by its protocol, and never trained."""

import hashlib
import json
import tempfile
import time
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from experiments.runs import CorpusIdentity, sample_rate
from experiments.study import Evaluate, Study

if TYPE_CHECKING:
    from codec.references import Reference
    from experiments.assess import Reconstructions
    from experiments.data import Split
    from experiments.tracking import Store
    from experiments.worker import Outcome, Settings, Update

REVISION = 1  # raise when a change of the code changes results, so that old runs are not taken for new ones


@dataclass(frozen=True, kw_only=True)
class ReferenceRun:
    """One evaluation of a reference codec. Plain data, so that it can be sent to another process."""

    reference: ClassVar[bool] = True
    seed: ClassVar[None] = None

    study: str
    label: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    sample_rate: int
    corpus: CorpusIdentity
    evaluate: Evaluate

    @property
    def quantizer(self) -> str:
        """What the tracking store has in place of a quantizer's name."""
        return f"reference:{self.name}"

    @cached_property
    def hash(self) -> str:
        """Identity of the run: the codec with its version, the corpus, and what is measured."""
        from experiments import metrics

        identity = {
            "revision": REVISION,
            "reference": {"name": self.name, "version": self.codec().version, **self.options},
            "sample_rate": self.sample_rate,
            "corpus": self.corpus.content_hash,
            "protocol": metrics.PROTOCOL,
            "metrics": sorted(self.evaluate.metrics),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def warm_start(self) -> None:
        """Nothing is trained."""
        return

    def codec(self) -> "Reference":
        """The codec, nothing of it loaded yet."""
        from codec import references

        return references.create(self.name, self.options)

    def resolved(self) -> dict[str, Any]:
        """The configuration in full, for people and for MLflow's parameters."""
        return {
            "study": self.study,
            "label": self.label,
            "reference": {"name": self.name, "version": self.codec().version, "options": self.options},
            "sample_rate": self.sample_rate,
            "data": {"corpus": self.corpus.name, "content_hash": self.corpus.content_hash},
            "evaluate": self.evaluate.model_dump(mode="json"),
        }


def expand(study: Study, corpus: CorpusIdentity) -> list[ReferenceRun]:
    """Every reference run of `study`."""
    return [
        ReferenceRun(
            study=study.name,
            label=choice.row,
            name=choice.name,
            options=dict(choice.options),
            sample_rate=sample_rate(study),
            corpus=corpus,
            evaluate=study.evaluate,
        )
        for choice in study.references
    ]


def perform(run: ReferenceRun, updates: "Queue[Update]", stop: Event, settings: "Settings") -> "Outcome":
    """Score one reference in a worker process: it ends as `finished`, `failed` or `stopped`."""
    from experiments.tracking import FAILED, FINISHED, Store, TrackingError
    from experiments.train import Interrupted
    from experiments.worker import STOPPED, Outcome, Update, open_run

    def tell(stage: str, done: int, total: int) -> None:
        if stop.is_set():
            raise Interrupted(stage)
        updates.put(Update(key=run.hash, stage=stage, done=done, total=total))

    store: Store | None = None
    run_id = ""
    try:
        store = Store(settings.store_uri, settings.study)
        run_id = open_run(store, run, settings.parent_id)
        _assess(run, store, run_id, tell)
        store.set_status(run_id, FINISHED)
        return Outcome(FINISHED)
    except Interrupted as error:
        if store and run_id:
            store.pause(run_id)
        return Outcome(STOPPED, str(error))
    except TrackingError as error:  # the machine's trouble, not the run's
        return Outcome(STOPPED, str(error))
    except Exception as error:
        updates.put(Update(key=run.hash, stage=f"{FAILED}: {error}"))
        if store and run_id:
            store.set_status(run_id, FAILED, str(error)[:500])
        return Outcome(FAILED, str(error))


def _assess(run: ReferenceRun, store: "Store", run_id: str, tell: Any) -> None:
    import yaml

    from experiments import assess, data
    from experiments.artifacts import write_audio

    codec = run.codec()
    tell("loading", 0, 0)
    codec.prepare()
    shards = data.prepare(run.corpus.spec, sample_rate=run.sample_rate)
    if shards.content_hash != run.corpus.content_hash:
        raise RuntimeError(f"the corpus {run.corpus.spec} changed while the study ran")
    made, bits = reconstruct(
        codec, shards.split("test"), run.sample_rate, lambda done, total: tell("reconstructing", done, total)
    )
    scores, values = assess.quality(
        made, run.sample_rate, run.evaluate.metrics, lambda done, total: tell("scoring", done, total)
    )
    values |= rates(codec, bits, made.audio_seconds)
    values["cost/real_time_factor"] = made.compute_seconds / made.audio_seconds
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scores.to_parquet(folder / "utterances.parquet", index=False)
        (folder / "config.yaml").write_text(yaml.safe_dump(run.resolved(), sort_keys=False))
        write_audio(folder, made.audio, run.evaluate.audio_examples, run.sample_rate)
        store.log_files(run_id, folder)
    store.log_values(run_id, values)


def reconstruct(
    codec: "Reference", split: "Split", sample_rate: int, check: Any
) -> "tuple[Reconstructions, int | None]":
    """Every clip of `split` through `codec`, and the bits that they took (None: it spends none)."""
    from experiments.assess import Reconstructions

    audio = {}
    compute = seconds = 0.0
    bits: int | None = None
    for index in range(len(split)):
        clip = split.clip(index)
        started = time.perf_counter()
        decoded = codec.reconstruct(clip, sample_rate)
        compute += time.perf_counter() - started
        seconds += len(clip) / sample_rate
        if decoded.bits is not None:
            bits = (bits or 0) + decoded.bits
        audio[split.names[index]] = (clip, decoded.audio)
        check(index + 1, len(split))
    nothing: dict[str, Any] = {}
    made = Reconstructions(
        audio=audio,
        usage=nothing,
        histograms=nothing,
        latents=nothing,
        compute_seconds=compute,
        audio_seconds=seconds,
        exact=0,
    )
    return made, bits


def rates(codec: "Reference", bits: int | None, seconds: float) -> dict[str, float]:
    """`rate/...`: the measured bitrate of the payload, and what else the codec states."""
    values = {f"rate/{name}": float(value) for name, value in codec.rates._asdict().items() if value}
    if bits is not None:
        values["rate/bitrate"] = bits / seconds
    return values
