"""Which private words are left where the field has standard ones: `python docs/_ext/words.py`.

Prints the hits by word, with `--where` their places. Left out: the glossary's "also called", and
words that have another, ordinary sense, which the patterns below tell apart.
"""

import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOOKED_AT = ("tinymm/**/*.py", "docs/*.md", "docs/_ext/*.py", "notebooks/*.py", "README.md")
LEFT_OUT = ("docs/_ext/words.py", "docs/glossary.md")
#: Pattern of the private word → the field's word.
WORDS = {
    r"\bslow twin|\bSlowTwin|\btwin'?s?\b": "momentum encoder (EMA)",
    r"\bthe twin's opinion|\bshare of the twin": "pseudo-targets, alpha",
    r"\bMomentumContrast\b": "momentum encoder and feature queue, as parts",
    r"\bTowers\b|\btowers\b": "DualEncoder",
    r"\bWriter\b": "image-grounded text decoder",
    r"\bsoft[ _]words?\b": "soft visual prompts",
    r"\bhidden words?\b|\bhidden_share\b|--hidden-share": "masked tokens, mlm_probability",
    r"\bcrosses_from\b": "fusion_layer",
    r"\bmemory_width\b": "encoder_width",
    r"\bjoint_width\b|\bjoint space\b|--joint\b|\.joint\b": "embed_dim, shared embedding space",
    r"\bexpansion\b|--expansion": "mlp_ratio",
    r"\bRecipe\b": "TrainConfig",
    r"--rate\b|\bsettings\.rate\b|\brecipe\.rate\b": "learning_rate",
    r"--decay\b|\bsettings\.decay\b|\bdecay=": "weight_decay",
    r"--clip\b|\bsettings\.clip\b": "max_grad_norm",
    r"\bnucleus\b|--nucleus": "top_p",
    r"--longest\b|\blongest=": "max_new_tokens",
    r"\bchecking\(\)": "detect_anomaly()",
    r"\bin_chunks\b|--chunk\b": "gradient caching (GradCache)",
    r"\bOpened\b": "LoadedModel",
    r"\bhomeless\b": "missing_keys",
    r"\bwobble\b": "random_affine",
    r"\brepainted\b": "color_jitter",
    r"\bequal scores\b": "uniform prediction",
    r"\bknows nothing\b|\bone who knows\b": "chance level, said which",
    r"\bwho may look at whom\b": "attention mask",
    r"\bforetells?\b": "predicts",
    r"\bsurprised?\b": "cross-entropy",
    r"\blearned by heart\b": "overfit",
    r"\bfavorites?\b": "hubs",
    r"\bstupid rival\b": "baseline",
    r"\bunseen face\b": "unseen font",
    r"\bpicture encoders?\b": "image encoder",
    r"\bfresh models?\b": "randomly initialized model",
    r"\bplanted mistakes?\b": "mutant",
}


def hits() -> dict[str, list[str]]:
    """Return the places of each private word, by its pattern."""
    found: dict[str, list[str]] = {pattern: [] for pattern in WORDS}
    files = sorted({path for glob in LOOKED_AT for path in ROOT.glob(glob)})
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        if name in LEFT_OUT:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for pattern in WORDS:
                if re.search(pattern, line):
                    found[pattern].append(f"{name}:{number}")
    return found


def main() -> None:
    """Print the lines that each private word is on, the most frequent first."""
    found = hits()
    for pattern, places in sorted(found.items(), key=lambda item: -len(item[1])):
        shown = pattern.replace(r"\b", "").replace("|", " | ")
        print(f"{len(places):5}  {shown:<60} → {WORDS[pattern]}")
        if "--where" in sys.argv[1:]:
            print(*(f"         {place}" for place in places), sep="\n")
    chapters = Counter("/".join(p.split("/")[:2]) for places in found.values() for p in places)
    print(
        f"{sum(map(len, found.values())):5}  lines in all: "
        + ", ".join(f"{c} {n}" for c, n in chapters.most_common(12))
    )


if __name__ == "__main__":
    main()
