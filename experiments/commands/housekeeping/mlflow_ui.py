"""Start MLflow's UI on a tracking store, for this machine alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

from experiments.commands.display.terminal import messages, output
from experiments.commands.outputs import OutputError
from experiments.tracking.reader import reader

HOST = "127.0.0.1"
FIRST_PORT, TRIED = 5000, 100
SECONDS = 120.0  # for its start


def serve(uri: str, port: int | None) -> None:
    """Serve the store at `uri` until Ctrl-C, and print the address once it answers.

    A store that is a server has its UI there already. Raises TrackingError where there is no store, and
    OutputError for a port that is taken.
    """
    reader(uri)  # there is a store
    if uri.startswith(("http://", "https://")):
        output().say(uri, to_copy=True)
        messages().say("that server has the UI already")
        return
    chosen = _port(port)
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", HOST, "--port", str(chosen), "--workers", "1"]
    with subprocess.Popen(  # in a group of its own: its workers end with it
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as server:
        try:
            _wait(server, chosen)
            output().say(f"http://{HOST}:{chosen}", to_copy=True)
            messages().say(f"MLflow's UI of {uri}; Ctrl-C ends it", to_copy=True)
            sys.stdout.flush()
            server.communicate()
        except KeyboardInterrupt:
            messages().say("ended")
        finally:
            _end(server)


def _port(wanted: int | None) -> int:
    """The port that was asked for, or the first free one. Raises OutputError."""
    for port in [wanted] if wanted else range(FIRST_PORT, FIRST_PORT + TRIED):
        if _is_free(port):
            return port
    taken = f"port {wanted} is" if wanted else f"ports {FIRST_PORT} to {FIRST_PORT + TRIED - 1} are"
    raise OutputError(f"{taken} taken by another program; give a free port with --port")


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
    return True


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers. Raises OutputError where it ends, or does not in `SECONDS`."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            told = (server.communicate()[1] or b"").decode(errors="replace").strip().splitlines()
            raise OutputError(f"MLflow's server ended: {told[-1] if told else server.returncode}")
        with socket.socket() as tried:
            if tried.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.2)
    raise OutputError(f"MLflow's server did not answer on port {port} in {SECONDS:.0f} s; start it again")


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and its workers."""
    if server.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(server.pid, signal.SIGTERM)
        else:  # Windows
            server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
