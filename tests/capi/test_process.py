"""The library in a process that is not its own: started in many ways, in hostile surroundings, and leaving
nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .header import constants
from .native import CAPI, PROGRAMS, compile_program, environment, library, run


@pytest.fixture
def servers_env(database_url: str, redis_url: str) -> dict[str, str]:
    """The environment of a program that opens a store on the test's servers."""
    return environment(DATABASE_URL=database_url, REDIS_URL=redis_url)


def citizen(*arguments: str, env: dict[str, str], **options: object) -> subprocess.CompletedProcess[str]:
    return run(compile_program(PROGRAMS / "citizen.c"), *arguments, env=env, **options)  # type: ignore[arg-type]  # handed through


def assert_ok(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout.splitlines()[-1:], done.stderr) == (0, ["ok"], ""), done


def test_a_linked_program(servers_env: dict[str, str]) -> None:
    done = citizen("basic", env=servers_env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")  # and nothing of the interpreter's


@pytest.mark.parametrize("standard", ["c++17"])
def test_a_program_in_cpp(servers_env: dict[str, str], standard: str) -> None:
    assert_ok(run(compile_program(PROGRAMS / "citizen.c", standard=standard), "basic", env=servers_env))


@pytest.mark.parametrize("how", ["local", "deepbind"])
def test_a_program_that_loads_it_twice_without_making_its_symbols_global(
    servers_env: dict[str, str], how: str
) -> None:
    assert_ok(run(compile_program(PROGRAMS / "loaded.c", linked=False), str(library()), how, env=servers_env))


IN_PYTHON = """
import ctypes, sys
native = ctypes.CDLL(sys.argv[1])
native.rss_init.restype = ctypes.c_int
store = ctypes.c_void_p()
import datetime
getattr(datetime.datetime_CAPI, "x", None)  # makes cffi's own start hang on Python < 3.12
for call in (lambda: native.rss_init(None), lambda: native.rss_open(None, None, None, ctypes.byref(store))):
    code = call()
    if code:
        native.rss_last_error.restype = ctypes.c_void_p
        error = native.rss_last_error()
        print(code, ctypes.cast(error + 24, ctypes.POINTER(ctypes.c_char_p))[0].decode())
        sys.exit(0)
assert native.rss_user_get(store, ctypes.c_int64(1), None) == -21
assert native.rss_close(store, ctypes.c_int64(1000)) == 0
print("ok")
"""


WITH_THE_LOCK = """
import ctypes, sys, threading, time
native = ctypes.PyDLL(sys.argv[1])  # calls without giving Python's lock up
store = ctypes.c_void_p()
options = (ctypes.c_int64 * 15)()
options[0] = ctypes.sizeof(options)
options[10] = 1 << 32  # queue_policy: RSS_QUEUE_WAIT
options[12:14] = [1 << 17, -1]
assert native.rss_open(None, None, options, ctypes.byref(store)) == 0
sql = b"SELECT pg_sleep(0.3)"
sleep = threading.Thread(target=native.rss_query_json, args=(store, sql, None, None, None))
sleep.start()
time.sleep(0.1)
event = b"stream", b"7", b"Tick", b"{}", None, ctypes.c_int64(-(2**63))
for _ in range(20_000):  # more than there is room for
    assert native.rss_event_append_async(store, *event) == 0
assert native.rss_flush(store, ctypes.c_int64(-1)) == 0
assert native.rss_event_append_async(store, *event) == 0
assert native.rss_close(store, ctypes.c_int64(5000)) == 0
sleep.join()
print("ok")
"""


def test_a_python_host_that_keeps_its_lock(servers_env: dict[str, str]) -> None:
    assert_ok(run(sys.executable, "-c", WITH_THE_LOCK, str(library()), env=servers_env))


def pythons() -> Iterator[str]:
    yield sys.executable
    yield os.path.realpath(sys.executable)  # the base interpreter, without the package
    yield "/usr/bin/python3"


@pytest.mark.parametrize("python", list(pythons()))
def test_inside_a_running_python(servers_env: dict[str, str], python: str) -> None:
    if not Path(python).exists():
        pytest.skip(f"no {python} on this machine")
    version = subprocess.check_output([python, "-c", "import sys; print(sys.version_info[:2])"], text=True)
    done = run(python, "-c", IN_PYTHON, str(library()), env=servers_env)
    if "async_timeout" in done.stdout:
        pytest.skip(
            "redis-py needs another package on Python 3.11.0 to 3.11.2 than on this environment's own"
        )
    if version.strip() == str(sys.version_info[:2]):
        assert_ok(done)
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("-2 library built for Python"), done.stdout


def test_hostile_surroundings(servers_env: dict[str, str], tmp_path: Path) -> None:
    for name in ("sitecustomize", "usercustomize", "rootstream_store", "psycopg", "_cffi_backend"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hostile')\n")
    hostile = {
        "PYTHONHOME": "/nonexistent",
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "sitecustomize.py"),
        "PYTHONINSPECT": "1",
        "PYTHONVERBOSE": "1",
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "ascii",
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C",
    }
    assert_ok(citizen("basic", env={**servers_env, **hostile}, cwd=tmp_path))


def test_no_surroundings_at_all(database_url: str) -> None:
    assert_ok(citizen("basic", env={"DATABASE_URL": database_url}))


def empty_environment(directory: Path, version: str | None = None) -> Path:
    """An environment without packages; its interpreter."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}" if version is None else version
    packages = directory / "lib" / name / "site-packages"
    packages.mkdir(parents=True)
    (directory / "pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix) / 'bin'}\n")
    (directory / "bin").mkdir()
    python = directory / "bin" / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    return python


def fails(python: Path | str, **changes: str) -> str:
    """Why rss_init does not succeed."""
    done = citizen("fails", str(python), env=environment(**changes))
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.removesuffix("ok\n")


def test_no_package_is_told_and_not_printed(tmp_path: Path) -> None:
    python = empty_environment(tmp_path)
    assert "No module named '_cffi_backend'" in fails(python)
    assert "No module named" in fails("", ROOTSTREAM_STORE_PYTHON=str(python))


def test_a_package_that_ends_the_process_does_not(tmp_path: Path) -> None:
    python = empty_environment(tmp_path)
    packages = next(tmp_path.glob("lib/*/site-packages"))
    (packages / "_cffi_backend.py").write_text("")
    (packages / "rootstream_store").mkdir()
    (packages / "rootstream_store" / "__init__.py").write_text("import sys; sys.exit(3)\n")
    assert "SystemExit: 3" in fails(python)


def test_an_environment_of_another_python_is_told(tmp_path: Path) -> None:
    python = empty_environment(tmp_path, "python3.99")
    assert "is an environment of python3.99" in fails(python)


@pytest.mark.parametrize("python", ["/nonexistent/bin/python", "python3", "bin/python"])
def test_an_interpreter_that_is_not_there_is_told(python: str) -> None:
    assert f'no Python interpreter "{python}" (named in the options)' in fails(python)


@pytest.mark.parametrize(
    "python", ["/" + "é" * 1400, "/x" + "é" * 1400, "/" + "é" * 20_000, "/\udcff/python"]
)
def test_the_text_of_an_error_is_utf8_wherever_it_is_cut(python: str) -> None:
    assert fails(python).startswith(("no Python", "the name"))  # and was decoded


def test_a_failed_start_can_be_tried_again(tmp_path: Path, servers_env: dict[str, str]) -> None:
    assert_ok(citizen("tries_again", "/nonexistent/bin/python", env=servers_env))
    assert_ok(citizen("tries_again", str(empty_environment(tmp_path)), env=servers_env))


def test_no_descriptor_is_left(servers_env: dict[str, str]) -> None:
    assert_ok(citizen("few_descriptors", env=servers_env))


def test_signals_are_the_hosts(servers_env: dict[str, str]) -> None:
    assert_ok(citizen("signals_kept", env=servers_env))
    assert_ok(citizen("handler_runs", env=servers_env))
    done = citizen("interrupt_kills", env=servers_env)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "no signal\n", "")


def test_threads_of_the_library_take_no_signal(servers_env: dict[str, str]) -> None:
    done = citizen("threads_block", env=servers_env)
    assert_ok(done)
    masks = [int(line.split()[1], 16) for line in done.stdout.splitlines() if line.startswith("SigBlk")]
    masks.remove(0)  # the main thread's
    assert len(masks) > 1
    for mask in masks:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGUSR1):
            assert mask & 1 << (number - 1), hex(mask)


@pytest.fixture
def hanging_up(tmp_path: Path) -> Iterator[str]:
    """A Redis that hangs up after its first answer: the next thing sent to it is a broken pipe. On a unix
    socket, where that is so at once."""
    path = str(tmp_path / "redis.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(0.2)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"%1\r\n$5\r\nproto\r\n:3\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"unix://{path}"
        stop.set()
        thread.join()


def test_a_broken_pipe_is_an_error_and_no_signal(database_url: str, hanging_up: str) -> None:
    done = citizen("broken_pipe", env=environment(DATABASE_URL=database_url, REDIS_URL=hanging_up))
    # At the end it raises the signal itself, which is the host's as before.
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGPIPE, "no signal\n", "")


def test_locale_streams_and_environment_stay(servers_env: dict[str, str], tmp_path: Path) -> None:
    assert_ok(citizen("surroundings_kept", env={**servers_env, "LC_ALL": "C.UTF-8"}, cwd=tmp_path))


def test_a_fork_is_told(servers_env: dict[str, str]) -> None:
    assert_ok(citizen("forks", env=servers_env))


def test_a_fork_after_a_failed_start(servers_env: dict[str, str], tmp_path: Path) -> None:
    """The child may start the library, unless the parent has started a Python, of which it has a part."""
    forked = -constants()["RSS_E_FORKED"]
    for python, code in (("/nonexistent/bin/python", 0), (str(empty_environment(tmp_path)), forked)):
        done = citizen("forks_after", python, env=servers_env)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{code}\nok\n", "")


def test_exit_without_close(servers_env: dict[str, str]) -> None:
    for _ in range(5):
        done = citizen("exits", env=servers_env)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_moved_environment_is_found_from_its_library(tmp_path: Path, database_url: str) -> None:
    """The library of a virtual environment takes that environment's packages."""
    empty_environment(tmp_path)
    inside = tmp_path / "lib" / "librootstream_store.so.1"
    inside.write_bytes(library().read_bytes())
    done = run(
        compile_program(PROGRAMS / "loaded.c", linked=False),
        str(inside),
        env=environment(DATABASE_URL=database_url),
    )
    assert done.returncode == 1
    assert f"in {tmp_path}/bin/python: ModuleNotFoundError" in done.stdout
    packages = next(tmp_path.glob("lib/*/site-packages"))
    own = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "here.pth").write_text("\n".join([str(CAPI.parent), *own]) + "\n")
    assert_ok(
        run(
            compile_program(PROGRAMS / "loaded.c", linked=False),
            str(inside),
            env=environment(DATABASE_URL=database_url),
        )
    )


def test_callers_with_older_and_newer_headers_and_texts_that_do_not_fit(servers_env: dict[str, str]) -> None:
    assert_ok(run(compile_program(PROGRAMS / "sizes.c"), env=servers_env))
