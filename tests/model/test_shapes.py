from dataclasses import replace

from bigcode_cli.model.shapes import tensor_shapes
from tests.model.models import small_config


def test_cross_attention_adds_its_tensors_in_the_order_of_the_modules() -> None:
    plain = small_config(multi_query=False, n_layer=2)
    config = replace(plain, add_cross_attention=True)
    shapes, width = tensor_shapes(config), config.n_embd
    added = {name: shapes[name] for name in shapes if name not in tensor_shapes(plain)}
    expected: dict[str, tuple[int, ...]] = {}
    for layer in range(2):
        block = f"transformer.h.{layer}"
        expected |= {
            f"{block}.crossattention.c_attn.weight": (2 * width, width),
            f"{block}.crossattention.c_attn.bias": (2 * width,),
            f"{block}.crossattention.q_attn.weight": (width, width),
            f"{block}.crossattention.q_attn.bias": (width,),
            f"{block}.crossattention.c_proj.weight": (width, width),
            f"{block}.crossattention.c_proj.bias": (width,),
            f"{block}.ln_cross_attn.weight": (width,),
            f"{block}.ln_cross_attn.bias": (width,),
        }
    assert list(added.items()) == list(expected.items())
    parts = [name.split(".")[3] for name in shapes if ".h.1." in name]
    order = ["ln_1", "attn", "ln_2", "crossattention", "ln_cross_attn", "mlp"]
    assert list(dict.fromkeys(parts)) == order
    more = config.parameter_count() - plain.parameter_count()
    assert more == 2 * (4 * width * width + 6 * width)


def test_an_output_matrix_of_its_own_comes_last() -> None:
    config = small_config(tie_word_embeddings=False)
    shapes = tensor_shapes(config)
    assert list(shapes)[-1] == "lm_head.weight"
    assert shapes["lm_head.weight"] == (config.vocab_size, config.n_embd)
    assert "lm_head.weight" not in tensor_shapes(small_config())
