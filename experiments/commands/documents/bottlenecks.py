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
    """The configuration of a quantizer with the rate nearest to the target."""

    name: str
    bits_per_frame: Real = Field(description="exact; null where it has no such configuration")
    off: Real = Field(description="percent off the target")
    streams: int | None = Field(description="tokens per frame")
    bitrate: Real = Field(description="bit/s; null without --frame-rate")
    token_rate: Real = Field(description="tokens per second; null without --frame-rate")
    codebook_sizes: list[int] = Field(description="codes of each token stream")
    options: dict[str, Any] = Field(description="options that fix the rate, as a study file would give them")
    reason: str = Field(description="reason why there is no configuration; else empty")


class RatesDocument(Document):
    """`codecbench rates`: configurations nearest a target rate."""

    schema_: Literal["codecbench.rates/1"] = Field(default="codecbench.rates/1", alias="schema")
    bits: Real = Field(description="target in bits per frame")
    frame_rate: Real = Field(description="frames per second; null without --frame-rate")
    dim: int = Field(description="feature channels")
    quantizers: list[QuantizerRate] = Field(description="all quantizers that spend bits")


class LatticeFigures(Part):
    """A lattice."""

    name: str
    dimension: int
    second_moment: Real = Field(description="normalised second moment per dimension, measured")
    error: Real = Field(description="standard error of `second_moment`")
    exact: Real = Field(description="second moment in theory")
    gain: Real = Field(description="dB over the cubic lattice, in theory")
    covering_radius: Real = Field(description="covering radius of the lattice scaled to cells of volume 1")
    thickness: Real
    packing_density: Real
    kissing_number: int


class GridFigures(Part):
    """A finite planar grid on a source within [-1, 1]^2: mean squared errors per dimension."""

    source: str
    kind: str
    spacing: str
    levels: list[int] = Field(description="along x and y")
    points: int
    cell: Real = Field(description="error with the range `cell`")
    edge: Real = Field(description="error with the range `edge`")
    best: Real = Field(description="error at the best scale")
    error: Real = Field(description="standard error of `best`")
    scale: Real = Field(description="best scale divided by that of `cell`")


class GeometryDocument(Document):
    """`codecbench geometry`: lattices and planar grids beside theory."""

    schema_: Literal["codecbench.geometry/1"] = Field(default="codecbench.geometry/1", alias="schema")
    samples: int = Field(description="Monte-Carlo points")
    seed: int
    bits: Real = Field(description="bits per pair of the planar grids")
    lattices: list[LatticeFigures]
    grids: list[GridFigures]


class SourcePoint(Part):
    """A quantizer on a source. Ratios are in dB, rates in bits per value."""

    source: str
    quantizer: str
    bits: Real
    snr: Real = Field(description="signal-to-noise ratio")
    error: Real = Field(description="standard error of `snr`")
    shannon: Real = Field(description="Shannon's bound at `bits`")
    high_rate: Real = Field(description="high-rate prediction for a cubic lattice; null where there is none")
    gap: Real = Field(description="`shannon` minus `snr`")
    own_high_rate: Real = Field(description="high-rate prediction for the cells of this quantizer")
    nominal: Real = Field(
        description="nominal bits per value; `bits` is the measured entropy where `--rate-weight` is given"
    )
    entropy_coded: Real = Field(
        description="entropy-coded uniform scalar quantization at `bits`; null except for `gaussian` and "
        "`laplacian`"
    )
    channels: Real = Field(description="channels that carry the bits, where the features were recorded")
    ceiling: Real = Field(description="best ratio that so many channels allow at any rate")


class SourceCodingDocument(Document):
    """`codecbench source-coding`: quantizers on sources with a known rate-distortion function."""

    schema_: Literal["codecbench.source-coding/2"] = Field(
        default="codecbench.source-coding/2", alias="schema"
    )
    points: list[SourcePoint]
    left_out: dict[str, str] = Field(description="for each quantizer without points, the reason")
