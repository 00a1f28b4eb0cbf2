"""The table of letters: what each means, where the executed shape comments have it first, and how large it is in small and in published models."""

import re
import sys

from tree import PACKAGE, ROOT, dotted, modules, page

COMMENTED = (
    "layers",
    "losses",
    "models",
    "tasks",
)  # where a comment on a shape is a claim that the tests hold


def letters() -> str:
    """Return the table of letters: their meaning from the conventions, and where the shape comments that the tests execute have them first."""
    sys.path.insert(0, str(ROOT / "tests"))
    from shape_comments import claims_of

    rows = re.findall(
        r"(?<=\|) *(`[^|]+) *\| *([^|]+?) *(?=\|)",
        (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8").split("## Masks")[0],
    )
    claims = [
        (path, claim)
        for folder in COMMENTED
        for path in modules(PACKAGE / folder)
        for claim in claims_of(path)
    ]
    text = "| letter | meaning | comments | first in |\n|---|---|---|---|\n"
    for names, meaning in rows:
        wanted = set(re.findall(r"\w+", names))
        met = [
            path
            for path, claim in claims
            if wanted & set(re.findall(r"[A-Za-z]\w*", " ".join(sum(claim.shapes, ()))))
        ]
        first = f"[{dotted(met[0]).removeprefix('tinymm.')}](/{page(met[0])}.rst)" if met else "–"
        text += f"| {names.strip()} | {meaning} | {len(met) or '–'} | {first} |\n"
    return text


def sizes() -> str:
    """Return the letters' values, read off the configs themselves."""
    from tinymm.models.blip import BLIPConfig
    from tinymm.models.blip2 import BLIP2Config
    from tinymm.models.clip import CLIPConfig

    clips = CLIPConfig.tiny(), CLIPConfig.paper("ViT-B/32")
    blips, queries = (
        (BLIPConfig.tiny(), BLIPConfig.paper()),
        (BLIP2Config.tiny(), BLIP2Config.paper()),
    )
    rows = {
        "`B`": ["any"] * 6,
        "`T`, at most": [
            *(c.text.context for c in clips),
            *(c.text.context for c in blips),
            *(c.qformer.context for c in queries),
        ],
        "`P`": [c.image.patches for c in (*clips, *blips, *queries)],
        "`Q`": ["–"] * 4 + [c.qformer.queries for c in queries],
        "`D` of the text": [
            *(c.text.width for c in (*clips, *blips)),
            *(c.qformer.width for c in queries),
        ],
        "`D` of the picture": [c.image.width for c in (*clips, *blips, *queries)],
        "`E`": [c.embed_dim for c in (*clips, *blips, *queries)],
        "`H` of the text": [
            *(c.text.heads for c in (*clips, *blips)),
            *(c.qformer.heads for c in queries),
        ],
        "`L` of the text": [
            *(c.text.layers for c in (*clips, *blips)),
            *(c.qformer.layers for c in queries),
        ],
        "`V`": [
            *(c.text.vocabulary for c in (*clips, *blips)),
            *(c.qformer.vocabulary for c in queries),
        ],
        "`K`": ["–"] * 2 + [c.queue for c in blips] + ["–"] * 2,
    }
    columns = [
        "CLIP, tiny",
        "CLIP ViT-B/32",
        "BLIP, tiny",
        "BLIP, paper",
        "BLIP-2, tiny",
        "BLIP-2, paper",
    ]
    text = f"| letter | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}\n"
    return text + "".join(
        f"| {name} | {' | '.join(f'{v:,}' if isinstance(v, int) else str(v) for v in values)} |\n"
        for name, values in rows.items()
    )
