"""The fuzzer of audio files, for some seconds; CODECBENCH_FUZZ_SECONDS=600 takes longer, on other files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("CODECBENCH_FUZZ_SECONDS", "5"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 300)
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_no_audio_file_crashes_hangs_or_takes_memory(tmp_path: Path) -> None:
    """In a process of its own: a crash in libsndfile's C code would end this one."""
    command = [sys.executable, str(Path(__file__).with_name("fuzz_audio.py")), str(SECONDS), str(tmp_path)]
    ran = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=SECONDS * 2 + 240, check=False
    )
    said = "\n".join(line[:300] for line in ran.stderr.splitlines()[-40:])
    kept = tmp_path / "last"
    assert ran.returncode == 0, f"status {ran.returncode}; the file is {kept}\n{said}"
    print(ran.stdout)  # the counts, for who runs it by hand with -s
    assert int(ran.stdout.split()[0]) >= 50
