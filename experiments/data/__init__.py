"""Corpora: sources of audio, prepared once into memory-mapped shards, read as splits and batches.

`sources` knows every kind of corpus, `prepare` makes shards of one, `dataset` reads them.
"""

from experiments.data.cache import SPLITS, cache_directory
from experiments.data.corpus import DataError, Progress
from experiments.data.dataset import Crops, Shards, Split
from experiments.data.prepare import prepare, prepared, unchanged
from experiments.data.streaming import TarSplit, joined

__all__ = [
    "SPLITS",
    "Crops",
    "DataError",
    "Progress",
    "Shards",
    "Split",
    "TarSplit",
    "cache_directory",
    "joined",
    "prepare",
    "prepared",
    "unchanged",
]
