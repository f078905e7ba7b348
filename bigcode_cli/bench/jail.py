"""A script that runs the program on its stdin where there is nothing to reach: see ``sandbox.py``.

It is started as ``python -I -S -B jail.py LIMITS`` and never imported for its work, and takes
three processes. The first enters namespaces of its own and builds a file system in memory that
holds Python's library, read-only, and an empty ``/tmp``; the second is the first process of the
new process namespace, so that its end is the end of all others in it; the third gives up every
right, takes on the limits and is the program. Linux 5.12 or later (``mount_setattr``).

Sources: namespaces(7), user_namespaces(7), pivot_root(2), mount_setattr(2), capset(2).
"""

import ctypes
import errno
import json
import os
import resource
import signal
import sys
import types
from typing import NoReturn

PASSED, FAILED, TIMED_OUT, OUT_OF_MEMORY, REFUSED = range(81, 86)
"""How the first process exits. The third exits likewise, but for what kills it."""

ROOT, WORK = "/proc", "/tmp"
"""Where the new root is built (no library is ever there), and the program's folder in it."""

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
LOADER_CACHE = "/etc/ld.so.cache"

NOBODY = 65534

# linux/sched.h, sys/mount.h, linux/mount.h, sys/prctl.h, linux/capability.h
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
SYS_MOUNT_SETATTR = 442  # of every architecture
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 0x1, 0x2, 0x4
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """Be the first process."""
    limits = json.loads(sys.argv[1])
    source = sys.stdin.buffer.read()
    try:
        die_with_parent(limits["parent"])
        as_root = enter_namespaces()
        build_root(limits["disk_bytes"], NOBODY if as_root else os.getuid())
        first = os.fork()
    except OSError as error:
        refuse(error)
    if first == 0:
        be_first(source, limits, as_root=as_root)
    # To be ended is to end the others first: when this process is gone, all are.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGKILL))
    _, status = os.waitpid(first, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def be_first(source: bytes, limits: dict[str, int], *, as_root: bool) -> NoReturn:
    """Be the second process: wait for the third, bury orphans, and tell how it ended."""
    try:
        check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
        program = os.fork()
        if program == 0:
            give_up_rights(limits, as_root=as_root)
    except OSError as error:
        refuse(error)
    if program == 0:
        run(source)
    while True:
        pid, status = os.wait()
        if pid == program:
            os._exit(verdict(status, limits["cpu_s"]))


def die_with_parent(parent: int) -> None:
    """Be killed when the process that started this one ends, however it does."""
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os._exit(REFUSED)


def enter_namespaces() -> bool:
    """Leave network, processes and mounts behind; whether it was done by root itself.

    Root becomes nobody later, as a limit on processes does not bind root. Any other user keeps
    its id, in a user namespace where it may do what follows.
    """
    own = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    uid, gid = os.getuid(), os.getgid()
    as_root = uid == 0
    check(libc.unshare(own if as_root else own | CLONE_NEWUSER), "namespaces of its own")
    if not as_root:
        for name, content in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123
                file.write(content)
    return as_root


def build_root(disk_bytes: int, owner: int) -> None:
    """Move into a file system that holds what a Python program needs and an empty folder."""
    os.umask(0o022)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    shown: list[str] = []
    for path in (*LIBRARIES, LOADER_CACHE, *sys.path):
        inside = any(path == other or path.startswith(f"{other}/") for other in shown)
        if os.path.exists(path) and not inside:  # noqa: PTH110
            show(path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
            shown.append(path)
    for path in DEVICES:
        show(path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)
    os.mkdir(ROOT + WORK)  # noqa: PTH102
    limits = f"size={disk_bytes},nr_inodes=1k,mode=700,uid={owner}"
    mount("tmpfs", ROOT + WORK, "tmpfs", MS_NOSUID | MS_NODEV, limits)
    os.chdir(ROOT)
    check(libc.pivot_root(b".", b"."), "a root of its own")
    check(libc.umount2(b".", MNT_DETACH), "umount")
    set_attributes("/", MOUNT_ATTR_RDONLY, recursive=False)
    os.chdir(WORK)


def show(path: str, attributes: int) -> None:
    """Let a file or folder be seen in the new root under the same name."""
    target = ROOT + path
    if os.path.isdir(path):  # noqa: PTH112
        os.makedirs(target, exist_ok=True)  # noqa: PTH103
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    mount(path, target, None, MS_BIND | MS_REC)
    set_attributes(target, attributes, recursive=True)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Mount, or fail."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    done = libc.mount(*encoded, ctypes.c_ulong(flags), os.fsencode(data) or None)
    check(done, f"mount {target.removeprefix(ROOT)}")


def set_attributes(target: str, attributes: int, *, recursive: bool) -> None:
    """Set attributes of a mount; ``struct mount_attr`` is four 64-bit numbers, these the first."""
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    done = libc.syscall(
        ctypes.c_long(SYS_MOUNT_SETATTR),
        ctypes.c_int(AT_FDCWD),
        os.fsencode(target),
        ctypes.c_uint(AT_RECURSIVE if recursive else 0),
        ctypes.byref(wanted),
        ctypes.c_size_t(ctypes.sizeof(wanted)),
    )
    check(done, f"read-only {target.removeprefix(ROOT)}")


def give_up_rights(limits: dict[str, int], *, as_root: bool) -> None:
    """Take on the limits, and keep no capability, no open file and no way back."""
    for which, most in (
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CORE, 0),
    ):
        # One second between the two, in which a program may end by SIGXCPU.
        hard = most + 1 if which == resource.RLIMIT_CPU else most
        resource.setrlimit(which, (most, hard))
    os.setsid()
    if as_root:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    check(libc.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())), "capset")
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    null = os.open("/dev/null", os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    os.closerange(3, 1 << 20)
    os.environ.clear()  # Python itself sets a locale where there is none


def run(source: bytes) -> NoReturn:
    """Be the program; only one that gets to its end has passed."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = ["program.py"]
    try:
        exec(compile(source, "program.py", "exec"), vars(module))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BaseException:
        os._exit(FAILED)
    os._exit(PASSED)


def verdict(status: int, cpu_s: int) -> int:
    """The exit code for how the program ended."""
    code = os.waitstatus_to_exitcode(status)
    if code in {PASSED, OUT_OF_MEMORY}:
        return code
    if code == -signal.SIGXCPU:
        return TIMED_OUT
    if code == -signal.SIGKILL:  # by the kernel: it ignored SIGXCPU, or the machine ran out
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return TIMED_OUT if spent.ru_utime + spent.ru_stime >= cpu_s else OUT_OF_MEMORY
    return FAILED


def check(result: int, what: str) -> None:
    """Turn a C function's failure into an error."""
    if result != 0:
        number = ctypes.get_errno() or errno.EINVAL
        raise OSError(number, os.strerror(number), what)


def refuse(error: OSError) -> NoReturn:
    """End before anything was run, and say why."""
    os.write(2, f"{error.filename}: {error.strerror}\n".encode(errors="replace"))
    os._exit(REFUSED)


if __name__ == "__main__":
    main()
