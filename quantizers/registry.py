"""Names of quantizers, their options, and the third-party ones that installed packages add."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any, get_type_hints

import torch
from torch import Tensor

from quantizers.contract import NO_ESTIMATE, Config, Quantizer, check_frames
from quantizers.geometry.views import PlanarView
from quantizers.option_checks import QuantizerError, check_kind, check_limits, check_memory
from quantizers.parts.components import principal_components
from quantizers.suggestions import did_you_mean

ENTRY_POINTS = "codecbench.quantizers"


@dataclass(frozen=True)
class Entry:
    """A registered name: a class, and the options that the name itself fixes."""

    name: str
    cls: type[Quantizer]
    preset: Mapping[str, Any] = field(default_factory=dict)
    paper: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        """Options that a user may give."""
        names = [f.name for f in dataclasses.fields(self.cls.config_class)] + list(self.cls.fit_options)
        return tuple(name for name in names if name not in self.preset)


_entries: dict[str, Entry] = {}


def register(
    cls: type[Quantizer], *, name: str, preset: Mapping[str, Any] | None = None, paper: str = ""
) -> None:
    """Register `cls` under `name`, with the options of `preset` fixed.

    Raises QuantizerError if the name is taken by another class.
    """
    if name in _entries and _entries[name].cls is not cls:
        raise QuantizerError(
            f"the quantizer name {name!r} is taken by {_entries[name].cls.__name__}; choose another"
        )
    _entries[name] = Entry(name, cls, dict(preset or {}), paper or cls.paper)


def available() -> tuple[str, ...]:
    """Names of all quantizers, first those of codecbench, then those of installed packages.

    Examples:
        >>> available()[:4]
        ('none', 'vq', 'rvq', 'fsq')
    """
    _load_builtin()
    return (*_entries, *(name for name in _third_party() if name not in _entries))


def entry(name: str) -> Entry:
    """The entry of `name`. Raises QuantizerError with a suggestion if there is none."""
    _load_builtin()
    if name in _entries:
        return _entries[name]
    if name in _third_party():
        return _load(name)
    hint = did_you_mean(name, available())
    raise QuantizerError(f"unknown quantizer {name!r}; {hint}known: {', '.join(available())}")


def options(name: str) -> tuple[str, ...]:
    """Names of the options that the quantizer `name` takes.

    Examples:
        >>> options("fsq")[:2]
        ('levels', 'range')
    """
    return entry(name).options


def validate(name: str, options: Mapping[str, Any] | None = None, bits: float | None = None) -> Config:
    """The checked configuration that `create` would use, without building the quantizer.

    Raises QuantizerError, also for options that need features (`needs_features`).

    Examples:
        >>> validate("fsq", bits=12).levels
        (8, 8, 8, 8)
        >>> validate("fsq", {"level": [5, 5]})
        Traceback (most recent call last):
        quantizers.option_checks.QuantizerError: fsq has no option 'level'; did you mean 'levels'? ...
    """
    return _validated(name, options, bits, None)


def _validated(
    name: str,
    options: Mapping[str, Any] | None,
    bits: float | None,
    variances: Tensor | None,
    measured: bool = True,
) -> Config:
    found = entry(name)
    given = dict(options or {})
    for key in given:
        if key in found.options:
            continue
        if key in found.preset:
            raise QuantizerError(f"{name}: {key} is fixed to {found.preset[key]!r} by the name; leave it out")
        hint = did_you_mean(key, found.options)
        raise QuantizerError(
            f"{name} has no option {key!r}; {hint}its options: {', '.join(found.options) or 'none'}"
        )
    try:
        return _configured(found, given, bits, variances, measured)
    except (QuantizerError, TypeError) as error:
        raise QuantizerError(f"{name}: {error}") from None
    except OverflowError:
        raise QuantizerError(f"{name}: {bits:g} bits are too many for these options") from None


def _configured(
    found: Entry, given: Mapping[str, Any], bits: float | None, variances: Tensor | None, measured: bool
) -> Config:
    """The configuration of an entry. Limits are looked at first: beyond them, fitting may take for ever."""
    check_limits(given if bits is None else {**given, "bits": bits})
    hints = get_type_hints(found.cls.config_class)
    for key, value in given.items():
        check_kind(key, value, hints.get(key))
    complete = {**found.preset, **given}
    if bits is not None:
        if variances is None:
            complete = found.cls.fit(bits, complete)
        else:
            complete = found.cls.fit_to(bits, complete, variances, measured)
    for key in found.cls.fit_options:
        if key in complete:
            raise QuantizerError(f"{key} has an effect only together with bits; give bits, or leave it out")
    config = found.cls.config_class(**complete)
    check_limits(dataclasses.asdict(config))
    return config


def create(name: str, *, dim: int, bits: float | None = None, **options: Any) -> Quantizer:
    """Build the quantizer `name` for features of `dim` channels.

    bits: bits per frame; the options with the nearest rate are chosen. None uses the options as given.
    Raises QuantizerError for unknown names or options, and for impossible configurations.

    Examples:
        >>> import torch
        >>> quantizer = create("fsq", dim=8, levels=[5, 5, 5]).eval()
        >>> quantizer.bits_per_frame  # 3 log2(5)
        6.965784284662087
        >>> codes = quantizer.encode(torch.zeros(1, 4, 8))
        >>> codes.shape  # [batch, frames, streams]
        torch.Size([1, 4, 1])
        >>> quantizer.decode(codes).shape  # [batch, frames, dim]
        torch.Size([1, 4, 8])
    """
    return build(name, validate(name, options, bits), dim=dim)


def build(name: str, config: Config, *, dim: int) -> Quantizer:
    """Build the quantizer `name` from a configuration that `validate` returned.

    Raises QuantizerError if it cannot be built for features of `dim` channels.

    Examples:
        >>> build("fsq", validate("fsq", {"levels": [5, 5, 5]}), dim=8).codebook_sizes
        (125,)
    """
    try:
        check_memory(dataclasses.asdict(config), dim)
        quantizer = entry(name).cls(dim, config)
    except QuantizerError as error:
        raise QuantizerError(f"{name}: {error}") from None
    quantizer.name = name
    return quantizer


def needs_features(name: str, options: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Names of those of `options` whose values depend on the features that the quantizer `name` will see.

    If there are any, call `fit_options` before `create`. Raises QuantizerError for an unknown name.
    """
    found = entry(name)
    return found.cls.waits_for({**found.preset, **(options or {})})


def fit_options(
    name: str,
    *,
    dim: int,
    bits: float | None = None,
    options: Mapping[str, Any] | None = None,
    features: Tensor | None = None,
) -> dict[str, Any]:
    """Complete options of the quantizer `name`: `create(name, dim=dim, **these)` builds it.

    bits: as in `create`. features: [frames, dim], of the kind that the quantizer will see. They are required
    if `needs_features` names an option, and have no effect otherwise. Only their principal variances are
    used.

    Options that the name fixes are left out. Tuples are lists, as in files. Raises QuantizerError for
    unknown names and options, for impossible configurations, and for features of another shape or that are
    not finite.

    Examples:
        >>> fit_options("fsq", dim=512, bits=12)["levels"]
        [8, 8, 8, 8]
    """
    variances = None
    if features is not None:
        check_frames(features, dim, name)
        components = principal_components(features)
        variances = torch.zeros(dim, dtype=torch.float64)
        variances[: components.rank] = components.variances
    return plain_options(name, _validated(name, options, bits, variances))


def planned_options(
    name: str, *, dim: int, bits: float | None = None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`fit_options` without features, to check a study and to estimate its rate within 2 %.

    If an option needs features, levels are those for principal variances of 1, 1/2, 1/3 and so on and for
    cells of typical errors, which takes milliseconds. Do not train with them.
    """
    variances = 1 / torch.arange(1, dim + 1, dtype=torch.float64)
    return plain_options(name, _validated(name, options, bits, variances, measured=False))


def check_rate_estimate(name: str, config: Config) -> None:
    """Raise QuantizerError unless the quantizer spends no bits or can estimate them in training."""
    cls = entry(name).cls
    if name != "none" and not cls.estimates_rate(config):
        raise QuantizerError(f"{name} {NO_ESTIMATE}")


def plain_options(name: str, config: Config) -> dict[str, Any]:
    """The options of `config` as files have them: tuples are lists, and those that `name` fixes are left out,
    as are options of a later date (`Config.added`) at their defaults."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    values = {
        key: value for key, value in dataclasses.asdict(config).items() if key not in entry(name).preset
    }
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
        if key not in config.added or value != defaults[key]
    }


def planar_views(name: str, options: Mapping[str, Any] | None = None) -> tuple[PlanarView, ...]:
    """Pairs of channels that a figure of the quantizer `name` with `options` can show as planes of cells.

    options: those that a run logged. The quantizer is not built. Empty for quantizers without such pairs.
    Raises QuantizerError for unknown names and options.
    """
    return entry(name).cls.planar_views(validate(name, options))


@cache
def _load_builtin() -> None:
    """Register our own quantizers, whose modules import this one."""
    importlib.import_module("quantizers.builtin")


@cache
def _third_party() -> Mapping[str, Any]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


@cache
def _load(name: str) -> Entry:
    point = _third_party()[name]
    try:
        cls = point.load()
    except Exception as error:  # another package's code: anything may happen
        raise QuantizerError(
            f"the quantizer {name!r} of {point.value} cannot be loaded: {error!r}"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Quantizer)):
        raise QuantizerError(
            f"the entry point {name!r} is {point.value}, which is not a subclass of quantizers.Quantizer"
        )
    return Entry(name, cls, paper=cls.paper)
