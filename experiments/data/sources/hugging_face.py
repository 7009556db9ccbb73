"""Corpora by the library `datasets` of Hugging Face: training audio is streamed, the rest prepared."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from experiments.data import audio_files
from experiments.data.cache import SPLITS
from experiments.data.corpus import DataError
from experiments.data.sources.streamed import StreamedCorpus
from experiments.data.sources.tar_samples import Sample
from experiments.data.splitting import split_of_folder

SPEAKERS = ("speaker_id", "speaker", "client_id", "spk_id", "speaker_name", "reader_id")
FORM = "datasets:NAME[:CONFIGURATION][@REVISION]"


@dataclass(frozen=True)
class DatasetShard:
    """One data file of a split of a dataset. state: digest of the split's files. split: which all its samples
    have, empty where they have none. columns: that of the audio, then that of the speaker if there is one."""

    name: str
    state: str
    split: str
    columns: tuple[str, ...]
    rows: Any
    number: int

    @property
    def address(self) -> str:
        return self.name

    def samples(self, split: str) -> Iterator[Sample]:
        """The rows of this file, in order. Raises DataError where they cannot be read."""
        rows = self.rows.shard(num_shards=self.rows.num_shards, index=self.number)
        try:
            for number, row in enumerate(rows):
                yield self._sample(f"{self.name}/{number}", row)
        except DataError:
            raise
        except Exception as error:  # of the network, of pyarrow, of fsspec's many file systems
            raise _unreachable(self.name, error) from error

    def _sample(self, name: str, row: Mapping[str, Any]) -> Sample:
        value = row.get(self.columns[0])
        stored = value if isinstance(value, Mapping) else {"path": value}
        path, content = stored.get("path"), stored.get("bytes")
        speaker = row.get(self.columns[1]) if len(self.columns) > 1 else _of_json(row.get("json"))
        if content is None and not path:
            return Sample(name, "", None, "no audio in it")
        return Sample(
            name,
            "" if speaker is None else str(speaker),
            content if content is not None else _opened(str(path)),
            member=PurePosixPath(str(path or "")).as_posix(),
            split=self.split,
        )


def parse(rest: str) -> StreamedCorpus:
    """The dataset `NAME[:CONFIGURATION][@REVISION]` of the Hub, or a folder that `datasets` can load.

    Splits named train, validation (or dev) and test are these. One that lacks is taken out of the training
    files: a whole file, where there are enough, else by a hash of speakers. Nobody who is held out trains.
    Raises DataError.
    """
    if not rest:
        raise DataError(f"corpus 'datasets:' lacks its name: write {FORM}")
    datasets = _library()
    path = audio_files.expanded(rest)
    name, configuration, revision = (str(path), None, None) if path.is_dir() else _parts(rest)
    logging.getLogger("datasets").setLevel(logging.ERROR)
    datasets.disable_progress_bars()  # commands show their own
    try:
        builder = datasets.load_dataset_builder(name, configuration, revision=revision)
        splits = builder.as_streaming_dataset()
    except Exception as error:  # of the network, of the Hub, of a dataset that needs a configuration
        raise _unreachable(rest, error) from error
    shards = [
        shard for split, rows in splits.items() for shard in _shards(datasets, builder, str(split), rows)
    ]
    title = path.resolve().name if path.is_dir() else rest
    listed, within = _split(shards, rest)
    notes = "Training audio is streamed by Hugging Face datasets."
    return StreamedCorpus(f"datasets:{title}", listed, apart=True, within=within, notes=notes)


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "datasets: corpora need the library of that name. Remedy: pip install 'codecbench[datasets]'."
        ) from error
    return datasets


def _parts(rest: str) -> tuple[str, str | None, str | None]:
    named, _, revision = rest.partition("@")
    name, _, configuration = named.partition(":")
    return name, configuration or None, revision or None


def _shards(datasets: Any, builder: Any, split: str, rows: Any) -> list[DatasetShard]:
    """The data files of a split; none of one that is no split of ours, such as `other` or `invalidated`."""
    features = rows.features or {}
    audio = [name for name, feature in features.items() if isinstance(feature, datasets.Audio)]
    audio += [name for name in features if name == "audio" and name not in audio]
    if not audio:
        raise DataError(f"datasets: no column of audio in {', '.join(features) or 'its files'}")
    speaker = [name for name in SPEAKERS if name in features][:1]
    # Rows as they are stored: to make them the types of the features, the library needs torchcodec.
    rows.info.features = None
    home = split_of_folder(split)
    state = _state(builder, split)
    return [
        DatasetShard(f"{split}-{number:05}", state, home, (audio[0], *speaker), rows, number)
        for number in range(rows.num_shards)
    ]


def _state(builder: Any, split: str) -> str:
    """Digest of the files of a split: names and sizes on this disk, names and revision on the Hub."""
    of_splits = builder.config.data_files or {}
    files = next((found for key, found in of_splits.items() if str(key) == split), None)
    if not files:
        return str(builder.hash)
    origins = getattr(files, "origin_metadata", None) or [()] * len(files)
    known = []
    for file, origin in zip(files, origins, strict=False):
        local = Path(str(file))
        state = [local.stat().st_size] if local.is_file() else [str(part) for part in origin]
        known.append([PurePosixPath(str(file)).name, *state])
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _split(shards: list[DatasetShard], rest: str) -> tuple[dict[str, list[DatasetShard]], bool]:
    """The data files of each split of ours, and whether each holds all splits."""
    listed = {split: [shard for shard in shards if shard.split == split] for split in SPLITS}
    listed["train"] = listed["train"] or [shard for shard in shards if not shard.split]
    if not listed["train"]:
        named = ", ".join(dict.fromkeys(shard.name.rpartition("-")[0] for shard in shards))
        raise DataError(f"datasets:{rest}: none of its splits ({named}) can train; {FORM}")
    lacking = [split for split in ("test", "validation") if not listed[split]]
    if len(listed["train"]) <= len(lacking):
        # Files of train have no split of their own: a hash of speakers or names deals their samples out.
        free = [DatasetShard(**{**vars(shard), "split": ""}) for shard in listed["train"]]
        together = [*free, *listed["validation"], *listed["test"]]
        return dict.fromkeys(SPLITS, together), True
    order = sorted(listed["train"], key=lambda shard: hashlib.sha256(shard.name.encode()).digest())
    for number, split in enumerate(lacking):
        listed[split] = [order[number]]
    held_out = {shard.name for shard in order[: len(lacking)]}
    listed["train"] = [shard for shard in listed["train"] if shard.name not in held_out]
    return listed, False


def _opened(path: str) -> bytes | Path:
    """The contents of a file that is elsewhere, or its path."""
    if "://" not in path:
        return Path(path)
    import fsspec

    with fsspec.open(path, "rb") as file:
        content: bytes = file.read()
    return content


def _of_json(value: object) -> object:
    """Speaker in the `.json` of a row of tar shards."""
    if isinstance(value, bytes | str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value.get("speaker") if isinstance(value, Mapping) else None


def _unreachable(name: str, error: Exception) -> DataError:
    return DataError(
        f"datasets: cannot read {name}: {type(error).__name__}: {audio_files.reason(error)}. Remedy: see "
        f"that the name and its configuration are right ({FORM}) and that huggingface.co can be reached; for "
        "a gated dataset accept its terms and log in by `hf auth login`. Without a network, download it by "
        "`hf download NAME --repo-type dataset --local-dir FOLDER` and write datasets:FOLDER."
    )
