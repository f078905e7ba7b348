"""The compiled engine as Python sees it: its structures and functions by ``ctypes``.

``api.cpp`` is the other side; what is written here about types is what is written there.
"""

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_float, c_int32, c_uint8, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from bigcode_cli.kernels.native.build import NAME, sources_digest

OUT_OF_MEMORY = 1
REFUSED = 2

FORMATS = {"F32": 0, "F16": 1, "BF16": 2, "I8": 3, "U8": 4}
"""How ``Matrix.format`` numbers what safetensors call so; ``U8`` are pairs of codes of 4 bits."""

ACTIVATIONS = {
    "gelu": 0,
    "gelu_new": 1,
    "gelu_fast": 1,
    "gelu_pytorch_tanh": 1,
    "relu": 2,
    "silu": 3,
    "swish": 3,
    "tanh": 4,
}


class Geometry(ctypes.Structure):
    """``bigcode_geometry``."""

    _fields_ = [
        *(
            (name, c_int32)
            for name in ("width", "inner", "heads", "kv_heads", "head_dim", "layers")
        ),
        *((name, c_int32) for name in ("positions", "vocab", "activation")),
        ("epsilon", c_float),
    ]


class Matrix(ctypes.Structure):
    """``bigcode_matrix``."""

    _fields_ = [
        *((name, c_int32) for name in ("format", "rows", "columns")),
        *((name, c_void_p) for name in ("weights", "scales", "bias")),
    ]


class Layer(ctypes.Structure):
    """``bigcode_layer``."""

    _fields_ = [
        *((name, c_void_p) for name in ("gain_1", "shift_1", "gain_2", "shift_2")),
        *((name, Matrix) for name in ("projection", "output", "up", "down")),
        ("attention_factor", c_float),
    ]


class Sampling(ctypes.Structure):
    """``Sampling``."""

    _fields_ = [
        ("temperature", c_float),
        ("top_k", c_int32),
        ("top_p", c_float),
        ("min_p", c_float),
        ("penalty", c_float),
    ]


_INTS = POINTER(c_int32)
_FLOATS = POINTER(c_float)
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "bigcode_sources": (c_char_p, ()),
    "bigcode_sizes": (None, (_INTS,)),
    "bigcode_instructions": (c_char_p, (c_char_p,)),
    "bigcode_model": (
        c_void_p,
        (
            *(POINTER(Geometry), *[POINTER(Matrix)] * 3, POINTER(Layer), c_void_p, c_void_p),
            *(c_int32, c_int32, c_char_p),
        ),
    ),
    "bigcode_model_free": (None, (c_void_p,)),
    "bigcode_cache": (c_void_p, (c_void_p,)),
    "bigcode_cache_free": (None, (c_void_p,)),
    "bigcode_cache_reserve": (c_int32, (c_void_p, c_int32)),
    "bigcode_cache_copy": (c_int32, (c_void_p, c_void_p, c_int32)),
    "bigcode_cache_cut": (c_int32, (c_void_p, c_int32)),
    "bigcode_feed": (
        c_int32,
        (c_void_p, POINTER(c_void_p), _INTS, _INTS, c_int32, _INTS, c_int32, _FLOATS, _FLOATS),
    ),
    "bigcode_score": (c_int32, (c_void_p, _FLOATS, c_int32, _INTS, _FLOATS)),
    "bigcode_desk": (c_void_p, ()),
    "bigcode_desk_free": (None, (c_void_p,)),
    "bigcode_sample": (
        c_int32,
        (
            *(c_void_p, _FLOATS, POINTER(Sampling), POINTER(c_uint8)),
            *(_INTS, c_int32, c_double, c_void_p),
        ),
    ),
    "bigcode_log_probabilities": (
        c_float,
        (c_void_p, _FLOATS, c_int32, c_int32, _INTS, _FLOATS, c_void_p),
    ),
}


def is_built() -> bool:
    """Whether the engine was compiled when the package was installed."""
    return Path(__file__).with_name(NAME).exists()


@cache
def load_error() -> str | None:
    """Why the engine that was built does not load here; ``None`` where it does."""
    try:
        library()
    except (OSError, AttributeError) as error:
        return str(error)
    return None


@cache
def library() -> ctypes.CDLL:
    """The engine.

    Raises:
        OSError: it was not built, not from the sources beside it, or does not load here.
    """
    engine = ctypes.CDLL(str(Path(__file__).with_name(NAME)))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(engine, name)
        function.restype, function.argtypes = result, arguments
    if engine.bigcode_sources().decode() != sources_digest():
        raise OSError("it was built from other sources")
    return engine


def instructions(wanted: str | None = None) -> str | None:
    """The name of the instruction set that is used; ``None`` if the one wanted is not here."""
    name: bytes | None = library().bigcode_instructions(wanted.encode() if wanted else None)
    return None if name is None else name.decode()
