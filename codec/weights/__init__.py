"""Released weights: a catalogue of them, and ways to them (a folder, the cache, a download).

`obtain("soundstream")` is what a release holds, as tensors under names of ours; `part` is one section of it;
`files` is a folder with the released files.
None of them is in this repository.
"""

from codec.weights.cache import cache_directory
from codec.weights.catalogue import Release, ReleasedFile, WeightsError, available, get
from codec.weights.obtaining import absence, content_hash, files, obtain, part, place, present

__all__ = [
    "Release",
    "ReleasedFile",
    "WeightsError",
    "absence",
    "available",
    "cache_directory",
    "content_hash",
    "files",
    "get",
    "obtain",
    "part",
    "place",
    "present",
]
