"""``python -m tests.likelihood``: see the package."""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from random import Random

import bigcode_cli  # noqa: F401 -- installs what finds models by name
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.locate import locate
from bigcode_cli.records import Attention
from tests.likelihood.cases import GOLDEN, LIMIT, SIZES, golden_texts, open_mini, relative, score
from tests.likelihood.oracle import Oracle


def open_oracle(folder: Path, attention: str) -> Oracle:
    """``mini`` in float32, carried over by a folder that loses nothing."""
    GPTBigCodeForCausalLM.from_pretrained("mini").save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((locate("mini") / "tokenizer.json").read_bytes())
    return Oracle(folder, attention)


def write_golden(oracle: Oracle) -> None:
    """What transformers finds on the golden texts, at all sizes."""
    rows = [
        {"text": name, **asdict(sizes), **asdict(oracle.score(text, **asdict(sizes)))}
        for sizes in SIZES
        for name, text in golden_texts().items()
    ]
    GOLDEN.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    print(f"wrote {GOLDEN.name}: {len(rows)} scores")


def compare(oracle: Oracle, texts: dict[str, str], attention: Attention) -> bool:
    """Print the largest differences at each size; say whether all are within the limit."""
    session = open_mini(attention)
    good = True
    for sizes in SIZES:
        worst, tokens, wrong = (0.0, "-"), 0, 0
        for (name, text), scored in zip(
            texts.items(), score(session, texts.values(), sizes), strict=True
        ):
            wanted = oracle.score(text, **asdict(sizes))
            tokens += wanted.scored_tokens
            wrong += wanted.scored_tokens != scored.scored_tokens
            worst = max(worst, (relative(scored.nll_sum, wanted.nll_sum), name))
        good = good and worst[0] <= LIMIT and not wrong
        print(
            f"{sizes}: {len(texts)} files, {tokens:,} tokens, {wrong} counted otherwise, "
            f"largest relative difference {worst[0]:.1e} ({worst[1]})",
            flush=True,
        )
    return good


def main() -> int:
    """Compare, or write the golden share."""
    parser = argparse.ArgumentParser(prog="python -m tests.likelihood")
    parser.add_argument("folder", type=Path, nargs="?", help="real files to score")
    parser.add_argument("--glob", default="**/*.py")
    parser.add_argument("--files", type=int, default=50)
    parser.add_argument("--attention", default="eager", choices=("eager", "sdpa"))
    parser.add_argument("--golden", action="store_true", help="write golden.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        oracle = open_oracle(Path(folder), args.attention)
        if args.golden:
            write_golden(oracle)
        if args.folder is None:
            return 0
        names = sorted(args.folder.glob(args.glob))
        chosen = Random(0).sample(names, min(args.files, len(names)))
        texts = {str(path.relative_to(args.folder)): path.read_bytes().decode() for path in chosen}
        return 0 if compare(oracle, texts, args.attention) else 1


if __name__ == "__main__":
    sys.exit(main())
