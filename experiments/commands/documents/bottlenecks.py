"""Documents about quantizers without speech: their list, rates, geometry, and known sources."""

from typing import Any, Literal

from pydantic import Field

from experiments.commands.documents.document import Document, Part, Real


class ListedQuantizer(Part):
    """A registered quantizer."""

    name: str
    family: str
    codebook: Literal["learned", "fixed", "none"]
    parameters: int = Field(description="learned values at 512 feature channels")
    options: list[str] = Field(description="keys of `options` in a study")
    paper: str = Field(description="empty where there is none")


class ListQuantizersDocument(Document):
    """`codecbench list quantizers`: every registered quantizer."""

    schema_: Literal["codecbench.list-quantizers/1"] = Field(
        default="codecbench.list-quantizers/1", alias="schema"
    )
    quantizers: list[ListedQuantizer]


class QuantizerRate(Part):
    """The configuration of a quantizer that is nearest the target."""

    name: str
    bits_per_frame: Real = Field(description="exact; null where it has no such configuration")
    off: Real = Field(description="percent off the target")
    streams: int | None = Field(description="tokens a frame")
    bitrate: Real = Field(description="bit/s; null without --frame-rate")
    token_rate: Real = Field(description="tokens a second; null without --frame-rate")
    codebook_sizes: list[int] = Field(description="of each stream")
    options: dict[str, Any] = Field(description="those that fix the rate, as a study would give them")
    reason: str = Field(description="why there is no configuration; else empty")


class RatesDocument(Document):
    """`codecbench rates`: configurations nearest a target rate."""

    schema_: Literal["codecbench.rates/1"] = Field(default="codecbench.rates/1", alias="schema")
    bits: Real = Field(description="target, a frame")
    frame_rate: Real = Field(description="frames a second; null without --frame-rate")
    dim: int = Field(description="feature channels")
    quantizers: list[QuantizerRate] = Field(description="those that spend bits")


class LatticeFigures(Part):
    """A lattice."""

    name: str
    dimension: int
    second_moment: Real = Field(description="normalised, a dimension; measured")
    error: Real = Field(description="standard error of `second_moment`")
    exact: Real = Field(description="second moment in theory")
    gain: Real = Field(description="dB over the cubic lattice, in theory")
    covering_radius: Real = Field(description="of a lattice whose cells have volume 1")
    thickness: Real
    packing_density: Real
    kissing_number: int


class GridFigures(Part):
    """A finite planar grid on a source within [-1, 1]^2: mean squared errors a dimension."""

    source: str
    kind: str
    spacing: str
    levels: list[int] = Field(description="along x and y")
    points: int
    cell: Real = Field(description="error with the range `cell`")
    edge: Real = Field(description="error with the range `edge`")
    best: Real = Field(description="error at the best scale")
    error: Real = Field(description="standard error of `best`")
    scale: Real = Field(description="best scale, over that of `cell`")


class GeometryDocument(Document):
    """`codecbench geometry`: lattices and planar grids beside theory."""

    schema_: Literal["codecbench.geometry/1"] = Field(default="codecbench.geometry/1", alias="schema")
    samples: int = Field(description="Monte-Carlo points")
    seed: int
    bits: Real = Field(description="of a pair, for the grids")
    lattices: list[LatticeFigures]
    grids: list[GridFigures]


class SourcePoint(Part):
    """A quantizer on a source. Ratios in dB, bits a value."""

    source: str
    quantizer: str
    bits: Real
    snr: Real = Field(description="signal-to-noise ratio")
    error: Real = Field(description="standard error of `snr`")
    shannon: Real = Field(description="Shannon's bound at `bits`")
    high_rate: Real = Field(description="a cubic lattice's prediction; null where there is none")
    gap: Real = Field(description="`shannon` less `snr`")
    own_high_rate: Real = Field(description="as `high_rate`, for the quantizer's own cells")


class SourceCodingDocument(Document):
    """`codecbench source-coding`: quantizers on sources with a known rate-distortion function."""

    schema_: Literal["codecbench.source-coding/1"] = Field(
        default="codecbench.source-coding/1", alias="schema"
    )
    points: list[SourcePoint]
    left_out: dict[str, str] = Field(description="by quantizer: why it has no points")
