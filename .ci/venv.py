"""Makes .venv with this checkout and its development tools, when it is missing or out of date.

Quiet when there is nothing to do. Two may run at once: the second waits. The next makes good a killed run.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python must get this sentence, not a traceback
    found = sys.version.split()[0]
    sys.exit(f"error: {sys.executable} is Python {found}; 3.11 or newer is needed: make PYTHON=...")

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "installed"


def main() -> None:
    """Installs under a lock on the checkout's own directory, which leaves no lock file behind."""
    lock = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        current = read_stamp()
        if current != wanted():
            install(lock, fresh=current.partition(" ")[0] != environment())
    finally:
        os.close(lock)


def environment() -> str:
    """What an installed environment cannot change: where it is and which Python it runs."""
    return hashlib.sha256(f"{VENV} {os.path.realpath(sys.executable)} {sys.version}".encode()).hexdigest()


def wanted() -> str:
    """The stamp of an environment that is up to date."""
    return f"{environment()} {hashlib.sha256((ROOT / 'pyproject.toml').read_bytes()).hexdigest()}"


def read_stamp() -> str:
    """The stamp found; empty when there is none, as after a killed run."""
    try:
        return STAMP.read_text()
    except FileNotFoundError:
        return ""


def install(lock: int, *, fresh: bool) -> None:
    """Makes or updates .venv. The stamp goes first and comes back last, so it never tells of half a job."""
    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    if fresh:
        print(f"installing into .venv (Python {sys.version.split()[0]}) ...", file=sys.stderr)
        if VENV.is_symlink() or VENV.exists():
            shutil.rmtree(VENV)
        run(lock, sys.executable, "-m", "venv", str(VENV))
    else:
        print("updating .venv: pyproject.toml changed ...", file=sys.stderr)
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
    run(lock, str(VENV / "bin" / "python"), *pip, "--editable", f"{ROOT}[dev]")
    STAMP.write_text(wanted())
    print(f"installed in {time.monotonic() - started:.0f} s", file=sys.stderr)


def run(lock: int, *command: str) -> None:
    """Runs a command; what it prints is shown only when it fails. It inherits the lock: when this process is
    killed and the command goes on, the next run waits for it."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(lock,),
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout.decode(errors="replace"))
        sys.exit(f"error: failed with status {done.returncode}: {' '.join(command)}")


if __name__ == "__main__":
    main()
