"""The shapes of the family that the table of layouts is filled for."""

from bigcode_cli.kernels.weights import Geometry

_STARCODER_VOCAB = 49152


def _geometry(
    width: int, layers: int, heads: int, *, positions: int, vocab: int = _STARCODER_VOCAB
) -> Geometry:
    return Geometry(
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=1,
        head_dim=width // heads,
        inner=4 * width,
        vocab=vocab,
        positions=positions,
        activation="gelu_pytorch_tanh",
    )


SHAPES = {
    "tiny_starcoder_py": _geometry(768, 20, 12, positions=8192),
    "santacoder": _geometry(2048, 24, 16, positions=2048, vocab=49280),
    "starcoderbase-3b": _geometry(2816, 36, 22, positions=8192),
    "starcoderbase-7b": _geometry(4096, 42, 32, positions=8192),
    "starcoder": _geometry(6144, 40, 48, positions=8192),
}
"""Published configurations (config.json of each model under huggingface.co/bigcode)."""


def matrices(shape: Geometry) -> dict[str, tuple[int, int]]:
    """``(out, in)`` of each matrix that a step reads: four a layer, and the head."""
    width = shape.width
    return {
        "projection": (width + 2 * shape.kv_heads * shape.head_dim, width),
        "output": (width, width),
        "up": (shape.inner, width),
        "down": (width, shape.inner),
        "head": (shape.vocab, width),
    }
