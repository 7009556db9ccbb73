"""Random study files and options end in messages: a sample of what `fuzz_studies` tries by hand."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SECONDS = float(os.environ.get("CODECBENCH_FUZZ_SECONDS", "5"))


def test_random_study_files_and_options_end_in_messages() -> None:
    at_random = ["--random"] if "CODECBENCH_FUZZ_SECONDS" in os.environ else []
    command = [sys.executable, str(Path(__file__).parent / "fuzz_studies.py"), str(SECONDS), *at_random]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300 + 3 * SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    print(done.stdout)  # the counts, for who runs it by hand with -s
    for kind in ("study refused", "study planned", "yaml refused", "quantizer refused", "quantizer built"):
        assert kind in done.stdout, done.stdout
