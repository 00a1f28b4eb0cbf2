"""What the numbers of `results.json` are, in a few words each: said beside them by `eval`, at the end of a run, and in its report."""

import re

#: The first pattern that is found in a name says what it is; a name of two ideas, such as
#: swap_relation_itm, meets the rarer one first.
MEANINGS = (
    ("unseen_characters_all_", "the same among all names, seen ones too"),
    ("unseen_characters_", "characters never trained on; words of their names were"),
    ("unseen_font_", "known characters in a font never trained on"),
    ("overfit_", "the very pairs that were trained on"),
    ("zero_shot_", "nearest prompt of a class; mean over classes, so chance is 1/classes"),
    ("probe_", "linear classifier on features, fitted on half; chance: the largest class"),
    ("swap_other_", "right caption above one with one thing exchanged for a new one"),
    ("swap_", "right caption above one of the same words, exchanged; ties count half"),
    ("_itm_reranked_", "ITC's best 16 put in order by ITM"),
    ("_itm_accuracy", "true pairs and the hardest wrong ones told apart"),
    ("_itm_loss", "loss of matching; at chance it says nothing"),
    ("_mlm_accuracy", "hidden words named; chance: beside another picture"),
    ("_perplexity", "choices that are left for the next word; smaller is better"),
    ("_captions_exact", "captions written that are true, word for word"),
    ("_words_right", "words of them in their right place"),
    ("validation_", "kept back from training, to choose the best step by"),
    (r"_r1$", "the right one first, mean of both directions"),
)


def meaning(name: str) -> str:
    """Return what a number of results.json is, or "" for one that nobody has described.

    >>> meaning("unseen_font_r1")
    'known characters in a font never trained on'
    """
    return next((said for pattern, said in MEANINGS if re.search(pattern, name)), "")
