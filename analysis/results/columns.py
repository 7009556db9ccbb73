"""The columns that a comparison table can have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from quantizers.suggestions import did_you_mean


class ColumnError(ValueError):
    """An unknown column; the message lists the known ones."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: the logged metric `source` times `scale`, shown with `digits` decimals."""

    key: str
    source: str
    header: str
    unit: str = ""
    group: str
    digits: int = 2
    scale: float = 1.0
    higher_is_better: bool | None = None
    needs_codes: bool = False  # meaningless for an unquantized system

    @property
    def interval(self) -> bool:
        """Whether runs log a confidence interval beside the value."""
        return self.source.startswith("eval/")

    @property
    def arrow(self) -> str:
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]


def _rate(key: str, header: str, unit: str, digits: int, scale: float = 1.0) -> Column:
    return Column(
        key=key,
        source=f"rate/{key}",
        header=header,
        unit=unit,
        group="rate",
        digits=digits,
        scale=scale,
        needs_codes=key != "frame_rate",
    )


def _usage(key: str, header: str, unit: str, digits: int, scale: float = 1.0) -> Column:
    return Column(
        key=key,
        source=f"usage/{key}",
        header=header,
        unit=unit,
        group="use",
        digits=digits,
        scale=scale,
        needs_codes=True,
    )


def _quality(key: str, header: str, unit: str, digits: int, better: bool) -> Column:
    return Column(
        key=key,
        source=f"eval/{key}",
        header=header,
        unit=unit,
        group="quality",
        digits=digits,
        higher_is_better=better,
    )


def _cost(key: str, header: str, unit: str, digits: int, scale: float = 1.0) -> Column:
    return Column(
        key=key,
        source=f"cost/{key}",
        header=header,
        unit=unit,
        group="cost",
        digits=digits,
        scale=scale,
        higher_is_better=False,
    )


SCORED = Column(key="scored", source="", header="scored", unit="utt.", group="quality")

COLUMNS: dict[str, Column] = {
    column.key: column
    for column in (
        _rate("bits_per_frame", "bits/frame", "bit", 2),
        _rate("frame_rate", "frame rate", "Hz", 1),
        _rate("streams", "streams", "", 0),
        _rate("token_rate", "token rate", "1/s", 0),
        _rate("bitrate", "bitrate", "kbit/s", 3, 1e-3),
        _rate("entropy_bitrate", "entropy rate", "kbit/s", 3, 1e-3),
        _usage("used_fraction", "codes used", "%", 1, 100),
        _usage("uniform_used_fraction", "used if uniform", "%", 1, 100),
        _usage("dead_fraction", "dead codes", "%", 1, 100),
        _usage("perplexity", "perplexity", "codes", 1),
        _usage("entropy_bits", "code entropy", "bit", 2),
        _usage("entropy_fraction", "entropy/max", "%", 1, 100),
        _usage("joint_used_fraction", "joint codes used", "%", 1, 100),
        _usage("joint_uniform_used_fraction", "joint if uniform", "%", 1, 100),
        _usage("joint_perplexity", "joint perplexity", "codes", 0),
        _usage("joint_uniform_perplexity", "perplexity if uniform", "codes", 0),
        _quality("pesq", "PESQ", "MOS-LQO", 2, True),
        _quality("stoi", "STOI", "", 3, True),
        _quality("estoi", "ESTOI", "", 3, True),
        _quality("mel_distance", "mel dist.", "", 3, False),
        _quality("dnsmos_ovrl", "DNSMOS", "OVRL", 2, True),
        _quality("dnsmos_sig", "DNSMOS", "SIG", 2, True),
        _quality("dnsmos_bak", "DNSMOS", "BAK", 2, True),
        _quality("dnsmos_p808", "DNSMOS", "P.808", 2, True),
        _quality("si_sdr", "SI-SDR", "dB", 2, True),
        _quality("vuv_f1", "V/UV F1", "", 3, True),
        SCORED,
        _cost("parameters", "params", "M", 3, 1e-6),
        _cost("quantizer_parameters", "quantizer", "k", 1, 1e-3),
        _cost("real_time_factor", "RTF", "s/s", 3),
        _cost("train_seconds", "training", "s", 0),
        _cost("audio_seconds_trained", "trained on", "h", 2, 1 / 3600),
    )
}

DEFAULT_COLUMNS = (
    "bits_per_frame",
    "token_rate",
    "bitrate",
    "entropy_bitrate",
    "used_fraction",
    "perplexity",
    "entropy_fraction",
    "pesq",
    "stoi",
    "mel_distance",
    "dnsmos_ovrl",
    "scored",
    "parameters",
    "real_time_factor",
)


def logged(keys: Iterable[str], names: Iterable[str]) -> list[str]:
    """Those of `keys` whose metrics some run has logged, by the `names` of all metrics."""
    there = set(names)
    return [key for key in keys if COLUMNS[key] is SCORED or COLUMNS[key].source in there]


def select(keys: Iterable[str]) -> list[Column]:
    """The named columns; any other logged metric can be named in full (`eval/distillmos`).

    Raises:
        ColumnError: a name is neither a column nor a logged name.
    """
    chosen = []
    for key in keys:
        if key in COLUMNS:
            chosen.append(COLUMNS[key])
        elif "/" in key:
            group = {"rate": "rate", "usage": "use", "eval": "quality"}.get(key.split("/")[0], "cost")
            header = key.split("/", 1)[1]
            chosen.append(Column(key=key, source=key, header=header, group=group, digits=3))
        else:
            hint = did_you_mean(key, COLUMNS)
            raise ColumnError(f"unknown column {key!r}; {hint}known: {', '.join(COLUMNS)}")
    return chosen
