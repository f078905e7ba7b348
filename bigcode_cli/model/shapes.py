"""What a checkpoint holds: every tensor's name and shape, from the configuration alone."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bigcode_cli.model.config import GPTBigCodeConfig


def tensor_shapes(config: "GPTBigCodeConfig") -> dict[str, tuple[int, ...]]:
    """Every tensor of a causal language model, in the order of its modules.

    The names are transformers'; ``lm_head`` is there only if it is its own.
    """
    width, inner = config.n_embd, config.inner_dim
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (config.vocab_size, width),
        "transformer.wpe.weight": (config.n_positions, width),
    }
    layer: dict[str, tuple[int, ...]] = {
        "ln_1": (width,),
        "attn.c_attn": (width + 2 * config.kv_dim, width),
        "attn.c_proj": (width, width),
        "ln_2": (width,),
    }
    if config.add_cross_attention:
        layer |= {
            "crossattention.c_attn": (2 * width, width),
            "crossattention.q_attn": (width, width),
            "crossattention.c_proj": (width, width),
            "ln_cross_attn": (width,),
        }
    layer |= {"mlp.c_fc": (inner, width), "mlp.c_proj": (width, inner)}
    modules = {f"h.{at}.{name}": layer[name] for at in range(config.n_layer) for name in layer}
    for name, shape in {**modules, "ln_f": (width,)}.items():
        shapes[f"transformer.{name}.weight"] = shape
        shapes[f"transformer.{name}.bias"] = shape[:1]
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, width)
    return shapes
