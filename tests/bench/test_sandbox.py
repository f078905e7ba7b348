"""What programs cannot do in the sandbox: each law is shown by a program that tries."""

import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bigcode_cli.bench.sandbox import Limits, Verdict, check_sandbox, run_programs
from bigcode_cli.errors import UsageError
from tests.cli.running import ROOT, environment


def refusal() -> str | None:
    """Why this machine has no sandbox."""
    try:
        check_sandbox()
    except UsageError as error:
        return error.message
    return None


pytestmark = pytest.mark.skipif(refusal() is not None, reason="needs namespaces")

SHORT = Limits(cpu_s=1, wall_s=3, memory_bytes=128 << 20)


def verdict(program: str, limits: Limits = SHORT) -> Verdict:
    (one,) = run_programs([program], limits)
    return one


def children() -> set[int]:
    """Processes that this one has started and not buried."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = status.read_text().partition(" ")
        except OSError:  # it has just ended
            continue
        if int(rest.rpartition(")")[2].split()[1]) == os.getpid():
            found.add(int(pid))
    return found


@pytest.fixture(autouse=True)
def _no_zombie() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("assert 1 + 1 == 2", "pass"),
        ("import json, math, re, typing, collections, hashlib, zlib, decimal", "pass"),
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n    a: int\nA(1)", "pass"),
        ("assert __name__ == '__main__'", "pass"),
        ("s = 'é\U0001f642'; assert len(s) == 2", "pass"),
        ("", "pass"),
        ("assert 1 + 1 == 3", "fail"),
        ("def f(:", "fail"),
        ("raise SystemExit(0)", "fail"),
        ("import os; os._exit(0)", "fail"),
        ("import os; os.abort()", "fail"),
        ("input()", "fail"),
        ("'\0'", "fail"),
    ],
)
def test_a_program_passes_that_gets_to_its_end(program: str, expected: Verdict) -> None:
    assert verdict(program) == expected


def test_results_keep_the_order_of_the_programs() -> None:
    told: list[int] = []
    programs = [f"import time; time.sleep({0.2 if n < 2 else 0}); assert {n % 3}" for n in range(8)]
    expected = ["pass" if n % 3 else "fail" for n in range(8)]
    assert run_programs(programs, SHORT, workers=3, told=told.append) == expected
    assert told[-1] == 8
    assert told == sorted(told)
    assert run_programs([]) == []


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('127.0.0.1', {port}), 1)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))",
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).connect(('2001:db8::1', 9))",
        "socket.getaddrinfo('example.org', 80)",
        "socket.socket(socket.AF_UNIX).connect({name!r})",
        "socket.socket(socket.AF_UNIX).connect('\\0' + {name!r})",
    ],
    ids=["loopback", "internet", "internet 6", "names", "socket file", "abstract socket"],
)
def test_there_is_no_network(attempt: str, tmp_path: Path) -> None:
    name = str(tmp_path / "socket")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        for one, address in ((local, name), (abstract, "\0" + name)):
            one.bind(address)
            one.listen()
        filled = attempt.format(port=server.getsockname()[1], name=name)
        refused = f"import socket\ntry: {filled}\nexcept OSError: pass\nelse: raise AssertionError"
        assert verdict(refused) == "pass"


def test_an_endless_loop_is_cut_by_its_processor_time() -> None:
    began = time.monotonic()
    assert verdict("while True: pass", Limits(cpu_s=1, wall_s=60)) == "timeout"
    assert time.monotonic() - began < 30


def test_a_loop_that_holds_on_is_cut_too() -> None:
    stubborn = (
        "import signal\nfor one in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    signal.signal(one, signal.SIG_IGN)\nwhile True: pass"
    )
    assert verdict(stubborn, Limits(cpu_s=1, wall_s=60)) == "timeout"


def test_a_sleeper_is_cut_by_the_clock() -> None:
    began = time.monotonic()
    assert verdict("import time; time.sleep(60)", Limits(wall_s=1)) == "timeout"
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "program",
    ["a = 'a' * (1 << 30)", "a = []\nwhile True: a.append('b' * 10000 + str(len(a)))"],
)
def test_a_memory_hog_is_cut(program: str) -> None:
    assert verdict(program, Limits(memory_bytes=128 << 20)) == "memory"


def test_a_fork_bomb_is_limited_and_cleared_away() -> None:
    count = (
        "import os, time\nleft = 0\n"
        "try:\n    while left < 100:\n        left += 1\n"
        "        if not os.fork(): time.sleep(60)\n"
        "except BlockingIOError: pass\n"
        f"assert 1 <= left <= {SHORT.processes}, left"
    )
    assert verdict(count) == "pass"
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    before = time.monotonic()
    assert verdict(bomb) == "timeout"
    assert time.monotonic() - before < 20


@pytest.mark.parametrize("seconds", [0, 60])
def test_what_it_started_ends_with_it(seconds: int) -> None:
    """A child in a session of its own outlives a killed process group."""
    program = (
        "import os, time\n"
        "if not os.fork():\n    os.setsid()\n    if not os.fork(): time.sleep(60)\n"
        f"time.sleep({seconds})"
    )
    run_programs([program], Limits(wall_s=1))
    assert not in_jail(os.getpid())


def command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:  # it has just ended
            continue


def in_jail(caller: int) -> bool:
    """Whether anything runs that this process started in a sandbox."""
    mark = f'"parent": {caller}}}'.encode()
    return any(mark in line for line in command_lines())


def test_a_big_file_is_cut() -> None:
    limits = Limits(file_bytes=1 << 20, disk_bytes=4 << 20)
    write = "with open('{}', 'wb') as file: file.write(bytes({}))\n"
    assert verdict(write.format("a", 1 << 20), limits) == "pass"
    assert verdict(write.format("a", (1 << 20) + 1), limits) == "fail"
    many = "".join(write.format(n, 1 << 20) for n in range(8))
    assert verdict(many, limits) == "fail", "many files fill the disk"
    assert verdict("for n in range(5000): open(str(n), 'w').close()", limits) == "fail"


def test_open_files_are_limited() -> None:
    assert verdict("a = [open('/dev/zero') for _ in range(40)]") == "pass"
    assert verdict("a = [open('/dev/zero') for _ in range(70)]") == "fail"


def test_no_file_outside_is_there_to_read_or_write(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("old")
    for path in (secret, Path(__file__), ROOT / "README.md", Path("/etc/passwd"), Path("/proc/1")):
        assert path.exists()
        assert verdict(f"import os; assert not os.path.exists({str(path)!r})") == "pass", path
    assert verdict(f"open({str(secret)!r}, 'w').write('new')") == "fail"
    assert secret.read_text() == "old"


def test_only_its_own_folder_can_be_written() -> None:
    attempt = (
        "import os, sys, errno\n"
        "for folder in {'/', '/dev', *(p for p in sys.path if os.path.isdir(p))}:\n"
        "    try: open(os.path.join(folder, 'new'), 'w')\n"
        "    except OSError as error: assert error.errno in (errno.EROFS, errno.EACCES), error\n"
        "    else: raise AssertionError(folder)\n"
        "assert os.getcwd() == '/tmp' and os.listdir('.') == []\n"
        "open('new', 'w').write('x')\n"
    )
    assert run_programs([attempt, attempt], SHORT) == ["pass", "pass"], "each has its own"


@pytest.mark.parametrize(
    "attempt",
    [
        "libc.mount(None, b'/', None, 32 | 4096, None)",  # MS_REMOUNT | MS_BIND, writable
        "libc.umount2(b'/tmp', 2)",
        "libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None)",
        "libc.chroot(b'/tmp')",
        "libc.sethostname(b'mine', 4)",
        "libc.setuid(0)",
        "libc.kill(1, 9) or libc.getpid()",
    ],
)
def test_its_rights_are_gone(attempt: str) -> None:
    program = f"import ctypes\nlibc = ctypes.CDLL(None)\nassert {attempt} != 0"
    assert verdict(program) == "pass"


def test_a_namespace_of_its_own_gives_no_right_back() -> None:
    nested = (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "libc.unshare(0x10000000 | 0x20000)\n"  # CLONE_NEWUSER | CLONE_NEWNS
        "assert libc.mount(None, b'/', None, 32 | 4096, None) != 0\n"
        "try: open('/new', 'w')\nexcept OSError: pass\nelse: raise AssertionError"
    )
    assert verdict(nested) == "pass"


def test_it_sees_no_environment_and_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "value")
    assert verdict("import os; assert not os.environ") == "pass"
    assert verdict(f"import os; os.kill({os.getpid()}, 0)") == "fail"
    assert verdict("import os; os.killpg(0, 9)") == "memory", "it kills itself, unexplained"


def test_it_knows_no_package_but_the_standard_library() -> None:
    assert verdict("import typer") == "fail"
    assert verdict("import bigcode_cli") == "fail"


def test_an_interrupt_leaves_nothing_running() -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_programs(["pass", "import time; time.sleep(60)"], workers=2, told=stop)
    assert not in_jail(os.getpid())


def test_a_killed_caller_leaves_nothing_running() -> None:
    script = (
        "from bigcode_cli.bench.sandbox import run_programs\n"
        "run_programs(['import time; time.sleep(60)', 'pass'], workers=2, "
        "told=lambda _: print(flush=True))"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", script], env=environment(), stdout=subprocess.PIPE
    )
    assert caller.stdout is not None
    caller.stdout.readline()
    assert in_jail(caller.pid)
    caller.kill()
    caller.wait()
    caller.stdout.close()
    wait_until(lambda: not in_jail(caller.pid))


def wait_until(state: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not state():
        assert time.monotonic() < end
        time.sleep(0.05)


def forbid_namespaces() -> None:
    """Make this process and its children unable to leave their namespaces, as containers do.

    A seccomp filter (seccomp(2)) that answers unshare(2) with EPERM.
    """
    number = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
    # load the call's number; equal: return ERRNO | EPERM; else: return ALLOW
    program = [
        (0x20, 0, 0, 0),
        (0x15, 0, 1, number),
        (0x06, 0, 0, 0x50001),
        (0x06, 0, 0, 0x7FFF0000),
    ]

    class Step(ctypes.Structure):
        _fields_ = (
            ("code", ctypes.c_uint16),
            ("true", ctypes.c_uint8),
            ("false", ctypes.c_uint8),
            ("k", ctypes.c_uint32),
        )

    class Filter(ctypes.Structure):
        _fields_ = (("count", ctypes.c_uint16), ("steps", ctypes.POINTER(Step)))

    libc = ctypes.CDLL(None, use_errno=True)
    steps = (Step * len(program))(*(Step(*step) for step in program))
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, ctypes.byref(Filter(len(program), steps)), 0, 0) == 0


def test_nothing_runs_where_the_machine_refuses() -> None:
    script = (
        "from tests.bench.test_sandbox import forbid_namespaces\n"
        "from bigcode_cli.bench.sandbox import check_sandbox, run_programs\n"
        "from bigcode_cli.errors import UsageError\n"
        "forbid_namespaces()\n"
        "for attempt in (check_sandbox, lambda: run_programs(['pass'] * 3)):\n"
        "    try: print(attempt())\n"
        "    except UsageError as error: print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = "--execute cannot protect this machine: namespaces of its own: Operation not permitted"
    assert done.stdout.splitlines() == [line, line]
