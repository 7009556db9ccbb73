"""Outlines of studies: runs and rates as plain data."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class PlannedCorpus:
    """A corpus at a sample rate in Hz. `content_hash`, `summary`, `test_clips`: once it is prepared.
    only_scored: whether no row is trained on it."""

    spec: str
    sample_rate: int
    content_hash: str = ""
    summary: str = ""
    test_clips: int = 0
    only_scored: bool = False


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run: `warm_start` is the hash of the training it starts from; `config` what its cost depends on;
    `scorings` how often the test set is scored, once per training budget."""

    label: str
    seed: int | None
    hash: str
    corpus: int
    training_hash: str = ""
    warm_start: str = ""
    warm_start_steps: int = 0
    steps: int = 0
    scorings: int = 1
    config: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PlannedRate:
    """The rate of a row. off: by how much, in percent, where it is more than 2 % off the study's. about:
    whether features will decide the levels, so that the rate is known within 2 % only."""

    bits_per_frame: float
    bitrate: float
    token_rate: float
    off: float | None = None
    about: bool = False


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Runs, corpora and rates of a study, as known without a tracking store."""

    study: str
    question: str
    allow_rate_mismatch: bool
    corpora: tuple[PlannedCorpus, ...]
    runs: tuple[PlannedRun, ...]
    references: tuple[PlannedRun, ...]
    rates: dict[str, PlannedRate]  # by label; a row that spends no bits is not there
    weights: tuple[str, ...] = ()  # names of the released weights that rows start from
    search: str = ""  # the trainings of `codecbench search`, in words; empty where the study has none
