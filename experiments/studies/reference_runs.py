"""Reference codecs as runs of a study: scored on its test split by its protocol, and never trained."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from codec import references
from experiments import metrics
from experiments.common.json_digest import identity
from experiments.studies.axes import shortened
from experiments.studies.runs import Corpora, CorpusIdentity, Run, corpus_of, sample_rate, test_corpus_of
from experiments.studies.sections import Evaluate
from experiments.studies.study import Study

if TYPE_CHECKING:
    from codec.references import Reference

REVISION = 1  # raise when a change of the code changes results, so that old runs are not taken for new ones


@dataclass(frozen=True, kw_only=True)
class ReferenceRun:
    """An evaluation of a reference codec. Plain data, so that it can be sent to another process."""

    reference: ClassVar[bool] = True
    seed: ClassVar[None] = None

    study: str
    label: str
    series: str = ""  # shared with the same codec at other rates
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    sample_rate: int
    corpus: CorpusIdentity
    evaluate: Evaluate

    @property
    def quantizer(self) -> str:
        """Name in the tracking store, in place of a quantizer's."""
        return f"reference:{self.name}"

    @cached_property
    def hash(self) -> str:
        """Identity of the run: the codec with its version, the corpus, and what is measured."""
        decides = {
            "revision": REVISION,
            "reference": {"name": self.name, "version": self.codec().version, **self.options},
            "sample_rate": self.sample_rate,
            "corpus": self.corpus.content_hash,
            "protocol": metrics.PROTOCOL,
            "metrics": sorted(self.evaluate.metrics),
        }
        return identity(decides)

    def warm_start(self) -> Run | None:
        """Nothing is trained."""
        return None

    def codec(self) -> "Reference":
        """The codec, nothing of it loaded yet."""
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
    """Reference runs of `study`: each codec once for each corpus that is scored and sample rate.

    corpus: the one corpus of the study, or all of `runs.corpora`.
    """
    corpora = {
        (cell.data.scored, sample_rate(cell)): test_corpus_of(cell, corpus) or corpus_of(cell, corpus)
        for cell in study.cells()
    }
    several_corpora = len({spec for spec, _ in corpora}) > 1
    several_rates = len({rate for _, rate in corpora}) > 1
    where = {
        (spec, rate): (f" data={spec}" if several_corpora else "") + (f" {rate} Hz" if several_rates else "")
        for spec, rate in corpora
    }
    return [
        ReferenceRun(
            study=study.name,
            label=shortened(choice.row + where[spec, rate]),
            series=shortened(choice.name + where[spec, rate]),
            name=choice.name,
            options=dict(choice.options),
            sample_rate=rate,
            corpus=identity,
            evaluate=study.evaluate,
        )
        for (spec, rate), identity in corpora.items()
        for choice in study.references
    ]
