"""Run a command in a pseudo-terminal: `in_terminal.py COLUMNS COMMAND...`. Prints what the terminal gets.

Exits with the command's code, or with 1 where it is 0 though the output shows a traceback.
"""

import fcntl
import os
import pty
import struct
import sys
import termios

ROWS = 40
TRACEBACK = b"Traceback (most recent call last)"


def run(columns: int, command: list[str]) -> int:
    """The exit code of `command`, whose terminal has `columns` columns."""
    size = struct.pack("HHHH", ROWS, columns, 0, 0)
    process, terminal = pty.fork()
    if process == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, size)  # before the command looks
        os.environ["TERM"] = "xterm-256color"
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
            os.environ.pop(name, None)
        os.execvp(command[0], command)
    shown = bytearray()
    while chunk := _read(terminal):
        shown += chunk
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    return 1 if code == 0 and TRACEBACK in shown else code


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), sys.argv[2:]))
