"""LibriSpeech and LibriTTS from openslr.org: downloaded on request, with checksum and resume."""

import hashlib
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from experiments.data import cache as shards
from experiments.data import formats
from experiments.data.corpus import Clip, DataError, Progress
from experiments.data.sources.folder import AudioFiles
from experiments.data.splitting import Entry, assign_splits, split_of_folder
from quantizers.suggestions import did_you_mean

SITE = "https://www.openslr.org/resources"
NUMBERS = {"librispeech": 12, "libritts": 60}
DEFAULT_SUBSETS = ("train-clean-100", "dev-clean", "test-clean")
ATTEMPTS = 5
PATIENCE = 1.0  # seconds before the second attempt, twice that before the third, ...
TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds without a byte
CHUNK = 1 << 16

# sha256 of the archives, as openslr.org publishes them.
CHECKSUMS = {
    "librispeech": {
        "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
        "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
        "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
        "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
        "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
        "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
        "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    },
    "libritts": {
        "dev-clean": "da0864e1bd26debed35da8a869dd5c04dfc27682921936de7cff9c8a254dbe1a",
        "dev-other": "d413eda26f3a152ac7c9cf3658ef85504dfb1b625296e5fa83727f5186cca79c",
        "test-clean": "234ea5b25859102a87024a4b9b86641f5b5aaaf1197335c95090cde04fe9a4f5",
        "test-other": "33a5342094f3bba7ccc2e0500b9e72d558f72eb99328ac8debe1d9080402f10d",
        "train-clean-100": "c5608bf1ef74bb621935382b8399c5cdd51cd3ee47cec51f00f885a64c6c7f6b",
        "train-clean-360": "ce7cff44dcac46009d18379f37ef36551123a1dc4e5c8e4eb73ae57260de4886",
        "train-other-500": "e35f7e34deeb2e2bdfe4403d88c8fdd5fbf64865cae41f027a185a6965f0a5df",
    },
}


class Libri:
    """`librispeech` or `libritts` with some of their subsets; without a train subset, dev speakers train.

    A subset of the other corpus is written with its corpus, such as `librispeech/test-clean` to test a
    training on LibriTTS. The two have their readers in common: the same part of both is one test set twice.
    """

    synthetic = False
    native_rate: int | None = None
    licence = "CC BY 4.0"

    def __init__(self, kind: str, subsets: tuple[str, ...]) -> None:
        for subset in subsets:
            own, part = self._home(kind, subset)
            known = CHECKSUMS.get(own, {})
            if part not in known:
                hint = did_you_mean(part, known)
                options = ", ".join(known or CHECKSUMS)
                raise DataError(f"{kind} has no subset {subset!r}; {hint}known: {options}")
        self.kind, self.subsets = kind, tuple(dict.fromkeys(subsets))
        self.name = f"{kind}:{','.join(self.subsets)}"
        numbers = dict.fromkeys(NUMBERS[own] for own, _ in self._homes())
        self.notes = ", ".join(f"openslr.org/{number}" for number in numbers)
        self._files: AudioFiles | None = None

    def fingerprint(self) -> str:
        """The archives' checksums: prepared shards serve on after archives and files were deleted."""
        checksums = [CHECKSUMS[own][part] for own, part in self._homes()]
        parts = [self.kind, *(f"{name} {sum_}" for name, sum_ in zip(self.subsets, checksums, strict=True))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._files) if self._files else 0

    def listed_splits(self) -> frozenset[str]:
        named = {split_of_folder(part) for _, part in self._homes()}
        dealt = {"train", "validation"} if named & {"train", "validation"} else set()
        return frozenset(named | dealt)

    def fetch(self, cache: Path, progress: Progress | None) -> None:
        """Download and unpack what is not there yet, below `cache/downloads`."""
        site = os.environ.get("CODECBENCH_MIRROR", SITE).rstrip("/")
        entries: list[Entry] = []
        for own, subset in self._homes():
            folder = cache / "downloads" / own
            archive = folder / f"{subset}.tar.gz"
            with shards.locked(folder / subset) as alone:
                if not (folder / subset).is_dir():
                    url = f"{site}/{NUMBERS[own]}/{subset}.tar.gz"
                    download(url, archive, CHECKSUMS[own][subset], progress)
                    _unpack(archive, folder / subset, alone, progress)
            split = split_of_folder(subset)
            for path in sorted((folder / subset).rglob("*")):
                if formats.is_readable(path):
                    name = path.relative_to(folder if own == self.kind else folder.parent)
                    speaker = path.relative_to(folder).parts[1]
                    entries.append(Entry(name.as_posix(), speaker, split, path))
        if not any(entry.split == "train" for entry in entries):
            dev = "validation"
            entries = [
                Entry(e.name, e.speaker, "train" if e.split == dev else e.split, e.path) for e in entries
            ]
        self._files = AudioFiles(self.name, assign_splits(entries))

    def _homes(self) -> list[tuple[str, str]]:
        """Corpus and name of each subset."""
        return [self._home(self.kind, subset) for subset in self.subsets]

    @staticmethod
    def _home(kind: str, subset: str) -> tuple[str, str]:
        own, slash, part = subset.partition("/")
        return (own, part) if slash else (kind, subset)

    def items(self, sample_rate: int, start: int = 0) -> Iterator[list[Clip]]:
        assert self._files is not None, "fetch comes first"
        return self._files.items(sample_rate, start)


def parse(kind: str, rest: str) -> Libri:
    """`librispeech`, `libritts`, or either with `:SUBSET,SUBSET,...`; CORPUS/SUBSET is one of the other."""
    named = [part.strip().removeprefix(f"{kind}/") for part in rest.split(",")]
    subsets = tuple(named) if rest else DEFAULT_SUBSETS
    return Libri(kind, subsets)


def download(url: str, target: Path, sha256: str, progress: Progress | None = None) -> None:
    """Fetch `url` to `target`, going on where an earlier attempt stopped; its sha256 must match.

    Raises `DataError` if the network or the checksum fails; what has arrived is kept for the next attempt.
    """
    import requests

    if target.exists() and _sha256(target) == sha256:
        return
    partial = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    failure = ""
    for attempt in range(ATTEMPTS):
        time.sleep(attempt * PATIENCE)
        try:
            if _receive(url, partial, progress):
                failure = ""
                break
            failure = "the connection ended early"
        except requests.HTTPError as error:
            failure = str(error)
            break
        except requests.RequestException as error:
            failure = type(error).__name__
    if partial.exists() and _sha256(partial) == sha256:
        partial.rename(target)
        return
    if failure:
        raise DataError(
            f"cannot download {url} ({failure}). Remedy: run again to resume, or put the archive at {target} "
            "yourself, or set CODECBENCH_MIRROR to another site's /resources, or use demo or folder:PATH."
        )
    partial.unlink(missing_ok=True)
    raise DataError(
        f"{url} arrived with a wrong checksum and was removed. Remedy: run again, or use a mirror."
    )


def _receive(url: str, partial: Path, progress: Progress | None) -> bool:
    """Append what is missing of `url`; whether all of it is here now."""
    import requests

    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # nothing lies beyond what is here
            return True
        answer.raise_for_status()
        if answer.status_code != 206:  # the server does not resume
            have = 0
        total = have + int(answer.headers.get("Content-Length") or 0)
        with partial.open("ab" if have else "wb") as file:
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress(
                        f"downloading {url.rpartition('/')[2]} (MiB)", have >> 20, max(total, have) >> 20
                    )
    return have >= total


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(archive: Path, target: Path, alone: bool, progress: Progress | None) -> None:
    """The folder `<corpus>/<subset>` of the archive becomes `target`, in one step at the end."""
    if progress:
        progress(f"unpacking {archive.name}", 0, 1)
    with shards.atomic_directory(target, alone) as directory, tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
        inner = next((path for path in directory.glob(f"*/{target.name}") if path.is_dir()), None)
        if inner is None:
            raise DataError(f"{archive}: holds no folder {target.name}; remove it and run again")
        for path in list(inner.iterdir()):
            path.rename(directory / path.name)
        shutil.rmtree(inner.parent)
    if progress:
        progress(f"unpacking {archive.name}", 1, 1)
