"""The tensors of safetensors files where they lie: mapped, read-only, free of torch.

Pages that are only read belong to the system's cache: they count for no process, several share
them, and they are still there when the next one starts.
"""

import ctypes
import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path

from bigcode_cli.errors import ModelCorruptError
from bigcode_cli.kernels.native.tensors import Tensor
from bigcode_cli.model.tensor_index import ITEM_BYTES, TensorEntry


class _Buffer(ctypes.Structure):
    """``Py_buffer`` of CPython's stable interface (https://docs.python.org/3/c-api/buffer.html)."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        *((name, ctypes.c_void_p) for name in ("shape", "strides", "suboffsets", "internal")),
    ]


class MappedFile:
    """A file in memory, for as long as this object lives.

    It is mapped for reading alone: ``ctypes`` would tell the address of a mapping only if it could
    be written to, and such a one counts as memory that may all be needed.

    Attributes:
        address: of its first byte.
        size: bytes.

    Raises:
        OSError, ValueError: it cannot be mapped.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.size = len(self._mapped)
        buffer = _Buffer()
        get, release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
        get(ctypes.py_object(self._mapped), ctypes.byref(buffer), ctypes.c_int(0))
        self.address: int = buffer.buf
        # What holds the mapping in its place is this object, which keeps it and never closes it.
        release(ctypes.byref(buffer))


def map_tensors(entries: Mapping[str, TensorEntry]) -> dict[str, Tensor]:
    """Tensors by name, in the order given; each file is mapped once.

    One that does not begin at a multiple of its numbers' size, as no writer of today leaves it, is
    copied to where it does.

    Raises:
        ModelCorruptError: a file has changed since its header was read.
    """
    files = _map_files({entry.file for entry in entries.values()}, entries.values())
    return {name: _tensor(files[entry.file], entry) for name, entry in entries.items()}


def _map_files(paths: Iterable[Path], entries: Iterable[TensorEntry]) -> dict[Path, MappedFile]:
    ends: dict[Path, int] = {}
    for entry in entries:
        ends[entry.file] = max(entry.stop, ends.get(entry.file, 0))
    files = {}
    for path in paths:
        try:
            files[path] = MappedFile(path)
        except (OSError, ValueError) as error:
            raise ModelCorruptError(f"{path} cannot be mapped: {error}") from error
        if files[path].size < ends[path]:
            raise ModelCorruptError(
                f"{path} has become shorter since its header was read", "download the model again"
            )
    return files


def _tensor(file: MappedFile, entry: TensorEntry) -> Tensor:
    address = file.address + entry.start
    if address % ITEM_BYTES[entry.dtype] == 0:
        return Tensor(entry.dtype, entry.shape, address, file)
    size = entry.stop - entry.start
    copy = (ctypes.c_uint64 * (size // 8 + 1))()
    ctypes.memmove(copy, address, size)
    return Tensor(entry.dtype, entry.shape, ctypes.addressof(copy), copy)
