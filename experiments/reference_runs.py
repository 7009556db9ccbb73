"""Reference codecs as runs of a study: scored on its test split by its protocol, and never trained."""

import hashlib
import json
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from experiments.runs import Corpora, CorpusIdentity, Run, corpus_of, sample_rate
from experiments.sections import Evaluate
from experiments.study import Study

if TYPE_CHECKING:
    from codec.references import Reference
    from experiments.assess import Reconstructions
    from experiments.data import Split
    from experiments.leases import Lease
    from experiments.tracking import Store
    from experiments.worker import Link, Outcome, Settings

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

    def warm_start(self) -> Run | None:
        """Nothing is trained."""
        return None

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


def expand(study: Study, corpus: CorpusIdentity | Corpora) -> list[ReferenceRun]:
    """Every reference run of `study`: each codec once for each corpus and sample rate.

    corpus: the one corpus of the study, or all of `runs.corpora`.
    """
    found = {(cell.data.corpus, sample_rate(cell)): corpus_of(cell, corpus) for cell in study.cells()}
    several_corpora = len({spec for spec, _ in found}) > 1
    several_rates = len({rate for _, rate in found}) > 1
    return [
        ReferenceRun(
            study=study.name,
            label=choice.row
            + (f" data={spec}" if several_corpora else "")
            + (f" {rate} Hz" if several_rates else ""),
            name=choice.name,
            options=dict(choice.options),
            sample_rate=rate,
            corpus=identity,
            evaluate=study.evaluate,
        )
        for (spec, rate), identity in found.items()
        for choice in study.references
    ]


def perform(
    run: ReferenceRun, settings: "Settings", link: "Link", store: "Store", lease: "Lease"
) -> "Outcome":
    """Score one reference in a worker process: it ends as `finished`, `failed` or `stopped`, or `elsewhere`
    when the lease was lost. Raises TrackingError."""
    from experiments.tracking import TrackingError
    from experiments.tracking_schema import FAILED, FINISHED
    from experiments.train import Interrupted
    from experiments.worker import ELSEWHERE, STOPPED, Job, Outcome, Update, open_run

    def tell(stage: str, done: int, total: int) -> None:
        if link.stopping() or lease.lost:
            raise Interrupted(stage)
        link.tell(Update(key=run.hash, stage=stage, done=done, total=total))

    run_id = ""
    try:
        run_id = open_run(store, Job(run=run), settings.parent_id)
        _assess(run, store, run_id, tell)
        store.set_status(run_id, FINISHED)
        return Outcome(FINISHED)
    except Interrupted as error:
        if lease.lost:  # the run is another's now
            return Outcome(ELSEWHERE, "taken over while this machine was cut off")
        with suppress(TrackingError):  # it is away; the run goes on all the same
            store.pause(run_id)
        return Outcome(STOPPED, str(error))
    except TrackingError:
        raise
    except Exception as error:
        link.tell(Update(key=run.hash, stage=f"{FAILED}: {error}"))
        if run_id and not lease.lost:
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
        slices=nothing,
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
