"""Types of the values in a study file, with their bounds.

Numbers are numbers: `true`, `"5"` and infinity are none. Upper bounds lie far above what anybody trains and
below what would hang or take all memory.
"""

import math
from typing import Annotated, Any, Literal
from unicodedata import category

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from experiments import metrics
from experiments.studies.axes import MOST_LABEL

MOST_STEPS = 10**9
MOST_BATCH = 2**16  # crops per step
MOST_CROP_SECONDS = 600.0
MOST_STEP_SECONDS = 100_000.0  # of audio in a step
MOST_SEED = 2**63 - 1
MOST_SEEDS = 1000
MOST_RATE = 1000.0  # of learning, of weight decay
MOST_BITS = 1024.0  # a frame
MOST_BITRATE = 10_000_000.0  # bit/s
MOST_NAME = 100
MOST_QUESTION = 2000
MOST_CORPUS = 4000
MOST_FILE_NAME = 255  # bytes


class Section(BaseModel):
    """A part of a study file: keys that are not known are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool | float):
        raise ValueError("must be a whole number")
    if isinstance(value, str):
        raise ValueError("must be a whole number, not a text; leave out the quotes, or correct it")
    return value


def _parts(value: Any) -> Any:
    if value == "auto":
        return value
    if isinstance(value, str) or not isinstance(whole := _whole(value), int):
        raise ValueError("must be a whole number, or auto")
    if not 1 <= whole <= MOST_BATCH:
        raise ValueError(f"must be from 1 to {MOST_BATCH}, or auto")
    return whole


def _number(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("must be a finite number")
    if isinstance(value, str):
        raise ValueError("must be a number, not a text; leave out the quotes, or correct it")
    return value


_UNPRINTABLE = ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")  # Unicode categories: control characters, no characters
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # change the direction of what follows


def printable(text: str) -> str:
    """`text`, if a line of a table can show it. Raises ValueError."""
    wrong = [letter for letter in text if category(letter) in _UNPRINTABLE or letter in _TURNING]
    if wrong:
        raise ValueError(f"must be printable, and U+{ord(wrong[0]):04X} is not; leave it out")
    if text and not text.strip():
        raise ValueError("is blank; leave it out, or write something")
    return text


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if twice := [value for value in values if values.count(value) > 1]:
        raise ValueError(f"{twice[0]!r} is given twice; remove one")
    return values


def _usable(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in _once(names):
        metrics.get(name).require()
    return names


Whole = BeforeValidator(_whole)
Number = BeforeValidator(_number)
Once = AfterValidator(_once)
Switch = StrictBool

Count = Annotated[int, Whole, Field(ge=1, le=MOST_STEPS)]
Steps = Annotated[int, Whole, Field(ge=0, le=MOST_STEPS)]
Parts = Annotated[Annotated[int, Field(ge=1, le=MOST_BATCH)] | Literal["auto"], BeforeValidator(_parts)]
Rate = Annotated[float, Number, Field(gt=0, le=MOST_RATE)]
Beta = Annotated[float, Number, Field(ge=0, lt=1)]
Bits = Annotated[float, Number, Field(gt=0, le=MOST_BITS)]
Bitrate = Annotated[float, Number, Field(gt=0, le=MOST_BITRATE)]
Seed = Annotated[int, Whole, Field(ge=0, le=MOST_SEED)]
Label = Annotated[str, Field(max_length=MOST_LABEL), AfterValidator(printable)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=MOST_NAME)]
Metrics = Annotated[tuple[str, ...], AfterValidator(_usable)]
Options = dict[str, Any]
