"""Emoji and their names, in color: new combinations of known words, and known emoji in another style.

Training sees OpenMoji's drawings only. The first test asks whether a model composes: "purple
heart", where hearts and purple things were seen apart. The second asks what it has learned of the
thing rather than of the drawing: the same emoji as Noto's artists draw them, where that font is
installed. A nearest picture, pixel by pixel, is the right one for 13 in 100 of them: the ground
that a model has to beat.
"""

from collections import Counter
from functools import lru_cache, partial

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator

from ..augment import color_jitter, random_affine
from ..batches import Batch, PairSet, Source, ZeroShot
from ..datasets import DatasetSpec, register_dataset
from ..images import Preprocess
from ..text import WordTokenizer
from . import emoji_artists

TEST, VALIDATION = 80, 40
#: A held-out name has two words or more, each of which stands in so many names, and still in two
#: that are trained.
STANDS_IN, STAYS_IN = 3, 2
TEMPLATES = ("picture of {}", "drawing of {}")
#: Languages of names beside English, by their codes, the two first that a list of data sets shows;
#: `emoji_artists.languages` asks the package.
OTHER_LANGUAGES = ("de", "zh", "ar", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr")
#: Words of English names that say what kind of thing is drawn, or in which color.
KINDS = ("arrow", "button", "cat", "circle", "face", "hand", "heart", "moon", "square")
COLORS = ("black", "blue", "brown", "green", "orange", "purple", "red", "white", "yellow")


def load(
    seed: int = 0,
    resolution: int = 32,
    *,
    language: str = "en",
    template_share: float = 0.1,
    strength: float = 1.0,
) -> "Emoji":
    """Return the emoji as a source of training batches, a validation set and up to four tests, with names in a language.

    The split depends on the language alone, so that runs can be compared. The pictures are drawn on
    the first call (about 2 s) and kept.

    >>> emoji = load()
    >>> len(emoji), len(emoji.tests()["unseen_emoji"])
    (1268, 80)
    """
    return Emoji(
        seed, resolution, language=language, template_share=template_share, strength=strength
    )


class Emoji(Source):
    """About 1,390 emoji of one code point: training has all but 120 of them, each in one drawing, distorted and color-jittered.

    Index i of a batch is an *emoji*, so no batch holds a name twice. `template_share` of the
    captions become prompts ("picture of red heart"), in English half of them around a kind or a
    color alone ("picture of heart"), because zero-shot classification asks in such words.
    UsageError for a share outside [0, 1] or a negative `strength`.
    """

    def __init__(
        self,
        seed: int = 0,
        resolution: int = 32,
        *,
        language: str = "en",
        template_share: float = 0.1,
        strength: float = 1.0,
    ) -> None:
        if not 0 <= template_share <= 1 or strength < 0:
            raise UsageError(
                f"emoji need a template_share from 0 to 1 and a strength from 0 on, but got {template_share} and {strength}: try 0.1 and 1."
            )
        self.name = "emoji" if language == "en" else f"emoji-{language}"
        self.seed, self.language, self.template_share, self.strength = (
            seed,
            language,
            template_share,
            strength,
        )
        self.characters, everything = drawn_characters(), emoji_artists.names(language)
        self.names = tuple(everything[character] for character in self.characters)
        self.templates = TEMPLATES if language == "en" else ("{}",)
        self.drawn = emoji_artists.pictures(emoji_artists.OPENMOJI, resolution)
        self.drawn_by_another = emoji_artists.pictures(emoji_artists.NOTO, resolution)
        self.test, self.held_back, self.trained = split(self.names)
        self.preprocess = Preprocess(
            resolution, channels=3, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        )
        self.tokenizer = WordTokenizer.from_captions(
            template.format(name) for name in self.names for template in self.templates
        )
        self._pixels = np.array([self.drawn[self.characters[i]] for i in self.trained])
        self._phrases = [class_words(name) if language == "en" else [] for name in self.names]

    def __len__(self) -> int:
        return len(self.trained)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return the trained emoji of these indices (B,), distorted and color-jittered, with their names or prompts."""
        # Distortions bring in zeros from outside, and paper is white: distort the negative.
        ink = 1 - self._pixels[indices] * np.float32(1 / 255)
        images = (
            1
            - color_jitter(random_affine(ink, rng, self.strength), rng, self.strength)
            - np.float32(0.5)
        ) / np.float32(0.5)
        chosen = self.trained[indices]
        captions = self._captions(chosen, rng)
        ids, is_real = self.tokenizer(captions)
        return Batch(images, ids, is_real, np.asarray(chosen, np.int64), tuple(captions))

    def _captions(self, chosen: np.ndarray, rng: np.random.Generator) -> list[str]:
        captions = []
        for i, (prompted, full, which, template) in zip(
            chosen.tolist(), rng.random((len(chosen), 4)).tolist(), strict=True
        ):
            caption, phrases = self.names[i], self._phrases[i]
            if prompted < self.template_share:
                caption = phrases[int(which * len(phrases))] if full >= 0.5 and phrases else caption
                caption = self.templates[int(template * len(self.templates))].format(caption)
            captions.append(caption)
        return captions

    def validation(self) -> PairSet:
        """Return 40 held-out emoji, other ones than the test's, by which a checkpoint may be chosen."""
        return self._pairs(self.held_back, self.drawn)

    def tests(self) -> dict[str, PairSet]:
        """Return the tests on new emoji, and on Noto's drawings where the font is installed.

        `unseen_emoji` 80 held-out ones, new combinations of known words; `unseen_emoji_all` the
        same against all names; `unseen_artist` the trained ones as Noto draws them; `unseen_both`
        the 80 as Noto draws them. A few drawings are missing from Noto's font.
        """
        tests = {"unseen_emoji": self._pairs(self.test, self.drawn)}
        owner = np.full(len(self.names), -1, dtype=np.int64)
        owner[self.test] = np.arange(len(self.test))
        tests["unseen_emoji_all"] = PairSet(tests["unseen_emoji"].images, list(self.names), owner)
        if self.drawn_by_another:
            tests["unseen_artist"] = self._pairs(self.trained, self.drawn_by_another)
            tests["unseen_both"] = self._pairs(self.test, self.drawn_by_another)
        return tests

    def zero_shot(self) -> dict[str, ZeroShot]:
        """Return the English tasks kind and color, of emoji whose name has exactly one of a task's words; chance is 1 in the number of classes.

        `kind` and `color` show held-out emoji, `kind_by_noto` and `color_by_noto` all that Noto has
        drawn.
        """
        result = {}
        held_out = np.concatenate([self.test, self.held_back])
        for task, classes in (
            {"kind": KINDS, "color": COLORS} if self.language == "en" else {}
        ).items():
            of_class = {
                i: words[0]
                for i, name in enumerate(self.names)
                if len(words := [w for w in name.split() if w in classes]) == 1
            }
            for suffix, pool, drawn in (
                ("", held_out, self.drawn),
                ("_by_noto", range(len(self.names)), self.drawn_by_another),
            ):
                members = [i for i in pool if i in of_class and self.characters[i] in drawn]
                found = sorted({of_class[i] for i in members})
                if len(found) > 1:
                    targets = np.array([found.index(of_class[i]) for i in members], np.int64)
                    result[task + suffix] = ZeroShot(
                        self._pairs(np.array(members), drawn).images,
                        tuple(found),
                        targets,
                        TEMPLATES,
                    )
        return result

    def captions(self) -> list[tuple[str, ...]]:
        """Return the name of each trained emoji, what a language model may read."""
        return [(self.names[i],) for i in self.trained]

    @property
    def about(self) -> str:
        """What is drawn by whom, and what is left out, for `data check`."""
        _, left_out = emoji_artists.single_emoji()
        noto = emoji_artists.NOTO
        another = (
            f"tested on {noto}"
            if self.drawn_by_another
            else f"{noto} is not installed, so no other artist to test on"
        )
        sequences = ", ".join(f"{count} × {kind}" for kind, count in left_out.items())
        return f"{emoji_artists.OPENMOJI} with names in {self.language!r}; {another}; sequences left out: {sequences}"

    def _pairs(self, chosen: np.ndarray, drawn: dict[str, np.ndarray]) -> PairSet:
        there = [i for i in chosen if self.characters[i] in drawn]
        images = self.preprocess.normalize(np.array([drawn[self.characters[i]] for i in there]))
        return PairSet(images, [self.names[i] for i in there], np.arange(len(there)))


@lru_cache(maxsize=1)
def drawn_characters() -> tuple[str, ...]:
    """Return the emoji that OpenMoji draws, look-alikes merged, in the order of their code points; the same at every resolution."""
    drawn = emoji_artists.pictures(emoji_artists.OPENMOJI)
    return emoji_artists.merged(tuple(drawn), drawn)


def split(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices (n,) of the test's, of validation's and of the trained emoji; the draw is fixed for good.

    Nothing in a held-out name is new but the combination: each word stands in `STANDS_IN` names,
    and `STAYS_IN` of them are trained on. Where a language has too few such names, two thirds of
    what there is are for the test.
    """
    words = [set(name.split()) for name in names]
    everywhere = Counter(word for some in words for word in some)
    trained = Counter(everywhere)
    candidates = [
        i
        for i, name in enumerate(names)
        if len(name.split()) > 1 and min(everywhere[word] for word in words[i]) >= STANDS_IN
    ]
    held_out: list[int] = []
    for i in generator(0).permutation(candidates).tolist():
        if len(held_out) < TEST + VALIDATION and min(trained[word] for word in words[i]) > STAYS_IN:
            held_out.append(i)
            trained.subtract(words[i])
    count = min(TEST, 2 * len(held_out) // 3)
    return (
        np.sort(held_out[:count]),
        np.sort(held_out[count:]),
        np.delete(np.arange(len(names)), held_out),
    )


def class_words(name: str) -> list[str]:
    """Return the words of a name that may stand in a prompt instead of it.

    >>> class_words("red heart"), class_words("octopus")
    (['red', 'heart'], [])
    """
    return [word for word in name.split() if word in KINDS or word in COLORS]


register_dataset(
    DatasetSpec(
        "emoji", load, "emoji and their names, and the same things by another artist", place=60
    )
)
for _code in OTHER_LANGUAGES:
    register_dataset(
        DatasetSpec(
            f"emoji-{_code}",
            partial(load, language=_code),
            f"emoji and their names in {_code!r}",
            variant_of="emoji",
            place=60,
        )
    )
