"""Errors of commands: one message, one exit code, and the traceback of a fault in a file."""

import concurrent.futures.process
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import quantizers
from experiments.commands import guard
from experiments.common.child_processes import WorkerError

COMMAND = [sys.executable, "-m", "experiments.cli"]
# The real command line with a command more, which does what a test asks for.
BROKEN = """
import sys
from experiments import cli

@cli.app.command()
def broken() -> None:
    {body}

sys.argv = ["codecbench", "broken"]
cli.main()
"""


def codecbench(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **variables},
    )


def broken(body: str, folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    code = BROKEN.format(body=textwrap.dedent(body).replace("\n", "\n    "))
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-c", code],
        **{"cwd": folder, "capture_output": True, "text": True, "timeout": 120, "check": False} | options,
    )


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (quantizers.QuantizerError("levels: give [7]"), 2, "error: levels: give [7]"),
        (WorkerError("the workers were killed"), 1, "error: the workers were killed"),
        (KeyboardInterrupt(), 130, "stopped; nothing that was saved is lost"),
        (OSError(errno.ENOSPC, "No space left on device", "a [/b].csv"), 2, "a [/b].csv: No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "x: Permission denied; change its perm"),
        (MemoryError(), 1, "error: not enough memory"),
        (concurrent.futures.process.BrokenProcessPool(), 1, "a worker process was killed"),
    ],
)
def test_what_users_can_mend_is_one_message(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard.report(error) == code
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "error",
    [ValueError("bare"), KeyError("label"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), OSError("odd")],
)
def test_a_fault_is_one_line_that_names_the_file_of_the_traceback(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(type(error)) as raised:
        raise error
    assert guard.report(raised.value) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: unexpected {type(error).__name__}")
    (file,) = tmp_path.iterdir()
    assert f"please report it with the traceback in {file}" in said.replace("\n", "")
    text = file.read_text()
    assert "Traceback (most recent call last)" in text
    assert text.startswith("command: ")


def test_a_fault_of_a_command_ends_with_its_file_and_code_1(tmp_path: Path) -> None:
    done = broken("raise RuntimeError('a [/b] \\x1b[31m')", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: unexpected RuntimeError: a [/b] \\x1b[31m. This is a fault")
    assert "Traceback" not in done.stderr
    (file,) = tmp_path.glob("codecbench-traceback-*.txt")
    assert "in broken" in file.read_text()


def test_without_any_place_for_it_the_traceback_is_printed(tmp_path: Path) -> None:
    body = """
    import tempfile
    tempfile.tempdir = '/proc/none'
    import os
    os.chdir('/proc')
    raise RuntimeError('x')
    """
    done = broken(body, tmp_path)
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_command_with_130(number: signal.Signals, tmp_path: Path) -> None:
    body = f"""
    import os, time
    os.kill(os.getpid(), {int(number)})
    time.sleep(30)
    """
    started = time.monotonic()
    done = broken(
        f"import signal\nsignal.signal(2, signal.default_int_handler)\n{textwrap.dedent(body)}", tmp_path
    )
    assert done.returncode == 130
    assert done.stderr == "stopped; nothing that was saved is lost\n"
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("by", ["typer.echo", "output().say", "print"])
def test_a_reader_that_goes_ends_a_command_in_silence(stream: str, by: str, tmp_path: Path) -> None:
    body = f"""
    import sys, typer
    from experiments.commands.display.terminal import output
    sys.stdout = sys.{stream}
    for number in range(100_000):
        {by}(f'line {{number}}')
    """
    script = tmp_path / "script.py"
    script.write_text(BROKEN.format(body=textwrap.dedent(body).replace("\n", "\n    ")))
    redirect = "2>errors.txt" if stream == "stdout" else "2>&1 >errors.txt"
    shell = f"{sys.executable} script.py {redirect} | head -n 2; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "line 0\nline 1\n141\n"
    assert (tmp_path / "errors.txt").read_text() == ""
    assert not list(tmp_path.glob("codecbench-traceback-*"))


def test_a_pipe_to_a_worker_that_breaks_is_not_taken_for_a_reader(tmp_path: Path) -> None:
    assert broken("raise BrokenPipeError(32, 'Broken pipe')", tmp_path).returncode == 1


def test_words_of_libraries_stay_out_of_messages(tmp_path: Path) -> None:
    wrong = codecbench("voronoi", "q2d2-hex", "7", "7", "--range", "foo", folder=tmp_path)
    assert wrong.returncode == 2
    assert "'foo' is not one of 'cell', 'edge'" in wrong.stderr
    assert "Value error" not in wrong.stderr
    away = codecbench("table", "x", "--tracking-uri", "http://127.0.0.1:9", folder=tmp_path)
    assert away.returncode == 2
    (line,) = away.stderr.splitlines()  # and none of the retries
    assert line.startswith("error: the tracking store http://127.0.0.1:9 does not answer")


def test_version(tmp_path: Path) -> None:
    done = codecbench("--version", folder=tmp_path)
    assert done.returncode == 0
    assert re.match(r"codecbench (\d+\.\d+|\(not installed\)).*, Python 3\.", done.stdout)


@pytest.mark.parametrize("module", ["codec.py", "quantizers.py", "analysis/__init__.py"])
def test_a_module_of_the_working_folder_that_hides_ours_is_named(module: str, tmp_path: Path) -> None:
    """As `python -m` looks into the working folder first."""
    path = tmp_path / module
    path.parent.mkdir(exist_ok=True)
    path.write_text("def encode(x): return x\n")
    done = codecbench("plan", "quickstart", folder=tmp_path)
    assert done.returncode == 2
    name = module.split("/")[0].removesuffix(".py")
    assert done.stderr.startswith(f"error: {path} hides codecbench's own package {name!r}")
    assert "rename it" in done.stderr


@pytest.mark.parametrize("together", [False, True])
def test_another_distribution_in_our_packages_is_named(together: bool, tmp_path: Path) -> None:
    """As pip leaves it: beside an editable installation, or the files of both in one folder, those installed
    last on top. It is told by a command that needs no quantizer, too."""
    root = Path(guard.__file__).parents[2]
    mixed = tmp_path / "site"
    mixed.mkdir()
    for package in guard.PACKAGES:
        (mixed / package).symlink_to(root / package)
    (mixed / "quantizers").unlink()
    (mixed / "quantizers").mkdir()
    (mixed / "quantizers" / "__init__.py").write_text("BINARY = 1\n")
    metadata = mixed / "quantizers-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: quantizers\nVersion: 1.2\n")
    (metadata / "top_level.txt").write_text("quantizers\n")
    for package in guard.PACKAGES[1:] if together else ():  # our own packages lie there, too
        (mixed / package).unlink()
        shutil.copytree(root / package, mixed / package, ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys; sys.argv[1:] = ['list', 'studies']; from experiments.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(mixed)},
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    said = "is not codecbench's own package" if together else "hides codecbench's own package"
    assert f"{said} 'quantizers'" in done.stderr
    assert "distribution 'quantizers' has a package called 'quantizers', too" in done.stderr
    assert "virtual environment without it" in done.stderr
    assert "Traceback" not in done.stderr
