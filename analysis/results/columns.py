"""Columns of comparison tables: how a logged metric is called, its unit, its decimals, its direction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from experiments import metrics
from quantizers.suggestions import did_you_mean


class ColumnError(ValueError):
    """An unknown column; the message lists the known ones."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: the logged metric `source` times `scale`, shown with `digits` decimals.

    higher_is_better: None where a larger value is neither better nor worse, or where nobody says; such a
    column has no arrow, no marks and no tests.
    """

    key: str
    source: str
    header: str
    unit: str = ""
    group: str
    digits: int = 2
    scale: float = 1.0
    higher_is_better: bool | None = None

    @property
    def interval(self) -> bool:
        """True if runs log a confidence interval beside the value."""
        return self.source.startswith("eval/")

    @property
    def needs_codes(self) -> bool:
        """True if it means nothing for an unquantized system."""
        return self.source.startswith(("rate/", "usage/")) and self.source != "rate/frame_rate"

    @property
    def arrow(self) -> str:
        """The direction of better values, if there is one."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def name(self) -> str:
        """`PESQ ↑`."""
        return f"{self.header} {self.arrow}".strip()

    @property
    def title(self) -> str:
        """`PESQ ↑ (MOS-LQO)`."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


_CODED = ("coded", "conditional_entropy", "modelled")  # rates that fall where codes can be predicted
_GROUPS = {"rate": "rate", "usage": "use", "eval": "quality", "robustness": "quality", "cost": "cost"}


def _column(source: str, header: str, unit: str = "", digits: int = 3, scale: float = 1.0) -> Column:
    """The column of a logged metric, with the direction that the metric itself states."""
    part, _, key = source.partition("/")
    return Column(
        key=key,
        source=source,
        header=header,
        unit=unit,
        group=_GROUPS.get(part, "cost"),
        digits=digits,
        scale=scale,
        higher_is_better=_direction(part, key),
    )


def _direction(part: str, key: str) -> bool | None:
    if part == "cost" or (part == "rate" and key.startswith(_CODED)):
        return False
    known = metrics.facts().get(key.rpartition("/")[2]) if part in ("eval", "robustness") else None
    return None if known is None else known.higher_is_better


# Header, decimals and, where it is not the metric's own, unit of the metrics that have a name in print.
_PRINTED: dict[str, tuple[str, int] | tuple[str, int, str]] = {
    "pesq": ("PESQ", 2),
    "pesq_nb": ("PESQ nb", 2),
    "stoi": ("STOI", 3),
    "estoi": ("ESTOI", 3),
    "mel_distance": ("mel dist.", 3, ""),
    "stft_distance": ("STFT dist.", 3),
    "log_spectral_distance": ("LSD", 2),
    "si_sdr": ("SI-SDR", 2),
    "delay": ("delay", 2),
    "vuv_f1": ("V/UV F1", 3),
    "pitch_rmse": ("pitch RMSE", 1),
    "periodicity_rmse": ("periodicity RMSE", 3),
    "dnsmos_ovrl": ("DNSMOS", 2, "OVRL"),
    "dnsmos_sig": ("DNSMOS", 2, "SIG"),
    "dnsmos_bak": ("DNSMOS", 2, "BAK"),
    "dnsmos_p808": ("DNSMOS", 2, "P.808"),
    "plcmos": ("PLCMOS", 2),
    "distillmos": ("DistillMOS", 2),
    "utmos": ("UTMOS", 2),
    "visqol": ("ViSQOL", 2),
    "speaker_cosine": ("speaker cos.", 3),
    "wer": ("WER", 3),
    "cer": ("CER", 3),
}
_DIGITS = {"cents": 1, "dB": 2, "ms": 2, "MOS": 2, "MOS-LQO": 2}  # of other metrics, by their unit


def _quality(metric: str) -> Column:
    known = metrics.facts().get(metric)
    unit = known.unit if known else ""
    header, digits, *other = _PRINTED.get(metric, (metric, _DIGITS.get(unit, 3)))
    return _column(f"eval/{metric}", header, other[0] if other else unit, digits)


SCORED = Column(key="scored", source="", header="scored", unit="utt.", group="quality")

COLUMNS: dict[str, Column] = {
    column.key: column
    for column in (
        _column("rate/bits_per_frame", "bits/frame", "bit", 2),
        _column("rate/frame_rate", "frame rate", "Hz", 1),
        _column("rate/streams", "streams", "", 0),
        _column("rate/token_rate", "token rate", "1/s", 0),
        _column("rate/bitrate", "bitrate", "kbit/s", 3, 1e-3),
        _column("rate/entropy_bitrate", "entropy rate", "kbit/s", 3, 1e-3),
        _column("rate/conditional_entropy_bitrate", "conditional entropy rate", "kbit/s", 3, 1e-3),
        _column("rate/coded", "coded rate", "kbit/s", 3, 1e-3),
        _column("rate/coded_stream", "coded, one stream", "kbit/s", 3, 1e-3),
        _column("rate/modelled", "modelled rate", "kbit/s", 3, 1e-3),
        _column("rate/coded_static", "coded, static", "kbit/s", 3, 1e-3),
        _column("rate/coded_adaptive", "coded, adaptive", "kbit/s", 3, 1e-3),
        _column("rate/coded_context", "coded, context", "kbit/s", 3, 1e-3),
        _column("usage/used_fraction", "codes used", "%", 1, 100),
        _column("usage/uniform_used_fraction", "used if uniform", "%", 1, 100),
        _column("usage/dead_fraction", "dead codes", "%", 1, 100),
        _column("usage/perplexity", "perplexity", "codes", 1),
        _column("usage/entropy_bits", "code entropy", "bit", 2),
        _column("usage/entropy_fraction", "entropy/max", "%", 1, 100),
        _column("usage/joint_used_fraction", "joint codes used", "%", 1, 100),
        _column("usage/joint_uniform_used_fraction", "joint if uniform", "%", 1, 100),
        _column("usage/joint_perplexity", "joint perplexity", "codes", 0),
        _column("usage/joint_uniform_perplexity", "perplexity if uniform", "codes", 0),
        _column("usage/token_perplexity", "token perplexity", "codes", 1),
        _column("usage/saturation", "saturation", "%", 1, 100),
        _column("usage/saturated_channels", "saturated", "channels", 1),
        _column("usage/effective_dimension", "effective dim.", "", 1),
        _column("usage/effective_dimension_quantized", "quantized dim.", "", 1),
        _column("usage/signal_to_noise", "feature SNR", "dB", 2),
        *map(_quality, metrics.facts()),
        SCORED,
        _column("cost/parameters", "params", "M", 3, 1e-6),
        _column("cost/quantizer_parameters", "quantizer", "k", 1, 1e-3),
        _column("cost/real_time_factor", "RTF", "s/s", 3),
        _column("cost/train_seconds", "training", "s", 0),
        _column("cost/audio_seconds_trained", "trained on", "h", 2, 1 / 3600),
    )
}


def quality_column(metric: str) -> Column:
    """The column of a metric of quality; one that nobody knows keeps its name and has no direction."""
    return COLUMNS.get(metric) or _quality(metric)


def logged(keys: Iterable[str], names: Iterable[str]) -> list[str]:
    """Select, of `keys`, those whose metrics some run has logged, by the `names` of all metrics."""
    known = set(names)
    return [key for key in keys if key == SCORED.key or select([key])[0].source in known]


def select(keys: Iterable[str]) -> list[Column]:
    """The named columns; any other logged metric can be named in full (`eval/round_trip_exact`).

    Raises:
        ColumnError: a name is neither a column nor a logged name.
    """
    by_source = {column.source: column for column in COLUMNS.values()}
    chosen = []
    for key in keys:
        if key in COLUMNS:
            chosen.append(COLUMNS[key])
        elif key in by_source:
            chosen.append(replace(by_source[key], key=key))
        elif "/" in key:
            chosen.append(replace(_column(key, key.partition("/")[2]), key=key))
        else:
            hint = did_you_mean(key, COLUMNS)
            raise ColumnError(f"unknown column {key!r}; {hint}known: all, {', '.join(COLUMNS)}")
    return chosen
