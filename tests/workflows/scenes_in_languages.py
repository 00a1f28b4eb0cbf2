"""Drawn scenes with captions in languages that put no spaces between words; run as a script it writes them to a folder.

python tests/workflows/scenes_in_languages.py Chinese my_pictures
"""

import sys
from pathlib import Path

import numpy as np

from tinymm.data.builtin.scenes import OPPOSITE, all_scenes, drawn

#: Per language: colors, shapes and relations in place of the English words, and three ways to say
#: what a scene shows.
LANGUAGES = {
    "Chinese": (
        {"red": "红色", "green": "绿色", "blue": "蓝色", "yellow": "黄色", "circle": "圆形", "square": "方形", "triangle": "三角形", "star": "星形"},
        {"left of": "左边", "right of": "右边", "above": "上面", "below": "下面"},
        ("{a}的{A}在{b}的{B}的{r}。", "{b}的{B}在{a}的{A}的{o}。", "图里有{a}的{A}，它的{o}是{b}的{B}。"),
    ),
    "Japanese": (
        {"red": "赤い", "green": "緑の", "blue": "青い", "yellow": "黄色い", "circle": "丸", "square": "四角", "triangle": "三角", "star": "星"},
        {"left of": "左", "right of": "右", "above": "上", "below": "下"},
        ("{a}{A}は{b}{B}の{r}にあります。", "{b}{B}は{a}{A}の{o}にあります。", "{a}{A}があり、その{o}に{b}{B}がある。"),
    ),
    "Thai": (
        {
            "red": "สีแดง", "green": "สีเขียว", "blue": "สีน้ำเงิน", "yellow": "สีเหลือง", "circle": "วงกลม", "square": "สี่เหลี่ยม", "triangle": "สามเหลี่ยม",
            "star": "ดาว",
        },
        {"left of": "ทางซ้าย", "right of": "ทางขวา", "above": "ข้างบน", "below": "ข้างล่าง"},
        ("{A}{a}อยู่{r}ของ{B}{b}", "{B}{b}อยู่{o}ของ{A}{a}", "มี{A}{a}และ{o}มี{B}{b}"),
    ),
}  # fmt: skip


def write(language: str, folder: Path, scenes: int = 40) -> Path:
    """Write three pictures of each of so many scenes, each with a caption of its own, all of them different; return the folder."""
    from PIL import Image

    words, relations, ways = LANGUAGES[language]
    folder.mkdir(parents=True, exist_ok=True)
    rng, lines = np.random.default_rng(0), ["file,caption"]
    every = all_scenes()
    for scene in (every[i] for i in np.sort(rng.permutation(len(every))[:scenes])):
        first, second, relation = scene.first, scene.second, scene.relation
        named = {
            "a": words[first.color],
            "A": words[first.shape],
            "b": words[second.color],
            "B": words[second.shape],
        }
        for way in ways:
            name = f"{len(lines) - 1:03}.png"
            Image.fromarray(drawn(scene, rng)).save(folder / name)
            lines.append(
                f'{name},"{way.format(**named, r=relations[relation], o=relations[OPPOSITE[relation]])}"'
            )
    assert len(set(lines)) == 1 + 3 * scenes
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
