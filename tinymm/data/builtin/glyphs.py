"""The default data: characters and their names, with a test on characters and on a font that training never sees.

Held-out *characters* are new combinations of known words ("latin small letter a with ring below"):
does the model compose? The held-out *font* shows known characters in an unknown drawing: does it
recognize? Neither can be answered by memory.
"""

import random
from collections import Counter
from functools import lru_cache

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator

from ..augment import random_affine
from ..batches import Batch, PairSet, Source, ZeroShot
from ..datasets import DatasetSpec, register_dataset
from ..images import Preprocess
from ..text import WordTokenizer
from .fonts import FONTS, RESOLUTION, named_pictures

TRAINING_FONTS = FONTS[:-1]
HELD_OUT_FONT = FONTS[-1]
HELD_OUT, VALIDATION, FONT_TEST = 150, 300, 1000
# No article: `a` is a letter here, and a bag of words could not tell the two apart.
TEMPLATES = ("picture of {}", "drawing of {}")
SCRIPTS = ("latin", "greek", "cyrillic", "armenian", "georgian")
CASES = ("capital", "small")
CATEGORIES = ("letter", "digit", "fraction", "sign", "mark", "arrow")
_PER_CLASS = 40


def load(seed: int = 0, *, template_share: float = 0.1, strength: float = 1.0) -> "Glyphs":
    """Return the glyphs as a source of training batches, a validation set, three tests and three zero-shot tasks.

    The split never depends on `seed`, so that runs can be compared; `seed` only chooses the
    validation pictures. The pictures are drawn on the first call (about 2 s) and kept.

    >>> glyphs = load()
    >>> len(glyphs), sorted(glyphs.tests())
    (1731, ['unseen_characters', 'unseen_characters_all', 'unseen_font'])
    """
    return Glyphs(seed, template_share=template_share, strength=strength)


class Glyphs(Source):
    """1,881 characters in six fonts: training has 1,731 of them in five fonts.

    Index i of a batch is a *character*; its font and distortion are drawn with `rng`, so a batch
    never holds two pictures of one name. `template_share` of the captions become prompts, half
    around the full name ("picture of latin small letter b") and half around a class ("picture of
    latin letter"), because zero-shot classification asks in words that training must have used. A
    class prompt fits many pictures of its batch (every second one is Latin), so its row can't be
    learned below ln of their number: at 0.1, 6 of 128 captions pay that, and 14,000 in a run of
    1,100 steps is ample. UsageError for a share outside [0, 1] or a negative `strength`.
    """

    name = "glyphs"

    def __init__(
        self, seed: int = 0, *, template_share: float = 0.1, strength: float = 1.0
    ) -> None:
        if not 0 <= template_share <= 1 or strength < 0:
            raise UsageError(
                f"glyphs need a template_share from 0 to 1 and a strength from 0 on, but got {template_share} and {strength}: "
                "try 0.1 and 1."
            )
        self.seed, self.template_share, self.strength = seed, template_share, strength
        self.characters, self.names, self.pictures = named_pictures()
        self.held_out, self.trained = split(self.characters, self.names)
        self.preprocess = Preprocess(RESOLUTION, channels=1, mean=(0.2,), std=(0.4,))
        words = [template.format(name) for name in self.names for template in TEMPLATES]
        self.tokenizer = WordTokenizer.from_captions(words)
        self._classes = [class_prompts(name) for name in self.names]
        self._withheld = _withheld_fonts(self.pictures, self.trained, seed)

    def __len__(self) -> int:
        return len(self.trained)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return the trained characters of indices (B,), each in a random font and distorted, with their names or prompts."""
        chosen = self.trained[indices]
        fonts = rng.integers(0, len(TRAINING_FONTS), len(chosen))
        fonts = np.where(fonts == self._withheld[chosen], (fonts + 1) % len(TRAINING_FONTS), fonts)
        pictures = self.pictures[fonts, chosen][..., None] * np.float32(1 / 255)
        images = (random_affine(pictures, rng, self.strength) - np.float32(0.2)) / np.float32(0.4)
        captions = self._captions(chosen, rng)
        ids, is_real = self.tokenizer(captions)
        return Batch(images, ids, is_real, np.asarray(chosen, np.int64), tuple(captions))

    def _captions(self, chosen: np.ndarray, rng: np.random.Generator) -> list[str]:
        draws = rng.random((len(chosen), 4))
        captions = []
        for i, (prompted, full, which, template) in zip(
            chosen.tolist(), draws.tolist(), strict=True
        ):
            prompts = self._classes[i]
            caption = self.names[i]
            if prompted < self.template_share:
                caption = (
                    caption if full < 0.5 or not prompts else prompts[int(which * len(prompts))]
                )
                caption = TEMPLATES[int(template * len(TEMPLATES))].format(caption)
            captions.append(caption)
        return captions

    def validation(self) -> PairSet:
        """Return 300 trained characters, each in one font in which training never shows it, undistorted.

        Only characters whose pictures differ in all five fonts, and from all others, take part. The
        pictures are new to the model though the names are not, so choosing a checkpoint by them
        uses up neither test.
        """
        chosen = np.flatnonzero(self._withheld >= 0)
        return self._pairs(self._withheld[chosen], chosen)

    def tests(self) -> dict[str, PairSet]:
        """Return the three tests: new characters, a new font, and new characters among all names.

        `unseen_characters` 150 held-out characters in Sans; `unseen_font` 1,000 trained ones in
        Serif Bold (12 of them, such as the slash, are drawn there as in a training font);
        `unseen_characters_all` the 150 against all 1,881 names.
        """
        among_all = self._pairs(0, self.held_out)
        owner = np.full(len(self.names), -1, dtype=np.int64)
        owner[self.held_out] = np.arange(len(self.held_out))
        return {
            "unseen_characters": among_all,
            "unseen_font": self._pairs(FONTS.index(HELD_OUT_FONT), self.trained[:FONT_TEST]),
            "unseen_characters_all": PairSet(among_all.images, list(self.names), owner),
        }

    def zero_shot(self) -> dict[str, ZeroShot]:
        """Return the tasks script, case and category: up to 40 characters a class in the held-out font, held-out ones first.

        Pictures that coincide with a training picture are left out, which arrows and squares often
        do: symbols have no serifs.
        """
        font = FONTS.index(HELD_OUT_FONT)
        seen = {
            picture.tobytes()
            for picture in self.pictures[:font, self.trained].reshape(-1, RESOLUTION, RESOLUTION)
        }
        new = [
            [i for i in some if self.pictures[font, i].tobytes() not in seen]
            for some in (self.held_out, self.trained)
        ]
        letter = tuple(f"{template} letter" for template in TEMPLATES)
        tasks = {
            "script": (SCRIPTS, letter),
            "case": (CASES, letter),
            "category": (CATEGORIES, TEMPLATES),
        }
        result = {}
        for task, (classes, templates) in tasks.items():
            chosen, targets = [], []
            for target, word in enumerate(classes):
                held, known = (
                    [i for i in some if word in class_words(self.names[i])[task]] for some in new
                )
                members = _spread(held, _PER_CLASS) + _spread(
                    known, _PER_CLASS - min(len(held), _PER_CLASS)
                )
                chosen += members
                targets += [target] * len(members)
            result[task] = ZeroShot(
                self._images(font, np.array(chosen)),
                classes,
                np.array(targets, np.int64),
                templates,
            )
        return result

    def captions(self) -> list[tuple[str, ...]]:
        """Return the name of each trained character, what a language model may read."""
        return [(self.names[i],) for i in self.trained]

    def held_out_names(self) -> list[str]:
        """Return the names of the 150 held-out characters, in the order of `tests()["unseen_characters"]`."""
        return [self.names[i] for i in self.held_out]

    def _images(self, fonts: np.ndarray | int, chosen: np.ndarray) -> np.ndarray:
        return self.preprocess.normalize(self.pictures[fonts, chosen][..., None])

    def _pairs(self, fonts: np.ndarray | int, chosen: np.ndarray) -> PairSet:
        return PairSet(
            self._images(fonts, chosen), [self.names[i] for i in chosen], np.arange(len(chosen))
        )


def split(characters: tuple[int, ...], names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the held-out characters (150,) and of the trained ones (N - 150,).

    Held out are 150 whose names have five words or more, each word standing in three names or more:
    nothing in them is new but the combination. The draw is fixed for good, so that numbers can be
    compared between versions and with others.
    """
    words = [name.split() for name in names]
    counts = Counter(word for some in words for word in some)
    candidates = [
        c
        for c, some in zip(characters, words, strict=True)
        if len(some) >= 5 and min(counts[word] for word in some) >= 3
    ]
    random.Random(0).shuffle(candidates)
    is_held_out = np.isin(characters, candidates[:HELD_OUT])
    return np.flatnonzero(is_held_out), np.flatnonzero(~is_held_out)


@lru_cache(maxsize=4096)
def class_words(name: str) -> dict[str, tuple[str, ...]]:
    """Return the class words of a name by task, of each task at most one.

    >>> class_words("latin small letter g")
    {'script': ('latin',), 'case': ('small',), 'category': ('letter',)}
    """
    words = name.split()
    is_letter = "letter" in words
    kinds = tuple(word for word in CATEGORIES if word in words)
    return {
        "script": tuple(word for word in SCRIPTS if is_letter and word == words[0]),
        "case": tuple(word for word in CASES if is_letter and word in words[:2]),
        "category": kinds if len(kinds) == 1 else (),
    }


def class_prompts(name: str) -> list[str]:
    """Return what may stand in a template instead of the name, one phrase a class.

    >>> class_prompts("latin small letter g"), class_prompts("double dagger")
    (['latin letter', 'small letter', 'letter'], [])
    """
    words = class_words(name)
    return [f"{word} letter" for word in words["script"] + words["case"]] + list(words["category"])


def _withheld_fonts(pictures: np.ndarray, trained: np.ndarray, seed: int) -> np.ndarray:
    """Return, for every character, the training font that only validation shows, or -1.

    Only characters whose five pictures occur nowhere else take part: in Mono, for one, the digit
    three is also the Cyrillic ze.
    """
    withheld = np.full(pictures.shape[1], -1)
    count = len(TRAINING_FONTS)
    occurrences = Counter(
        picture.tobytes()
        for picture in pictures[:count, trained].reshape(-1, RESOLUTION, RESOLUTION)
    )
    distinct = [
        i
        for i in trained
        if all(occurrences[picture.tobytes()] == 1 for picture in pictures[:count, i])
    ]
    rng = generator(seed)
    chosen = rng.permutation(distinct)[:VALIDATION]
    withheld[chosen] = rng.integers(0, count, len(chosen))
    return withheld


def _spread(indices: list[int], count: int) -> list[int]:
    """Return `count` of the indices, evenly spaced, or all where there are fewer."""
    if len(indices) <= count:
        return list(indices)
    return [indices[place * len(indices) // count] for place in range(count)]


register_dataset(
    DatasetSpec(
        "glyphs",
        lambda seed, _: load(seed),
        "characters and their names, drawn in six fonts, one of which training never sees",
        one_size=True,
        place=10,
    )
)
