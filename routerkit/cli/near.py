"""What somebody may have meant who wrote a name that nobody knows."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"[a-z0-9]+")


def near(name: str, ids: Iterable[str], count: int = 5) -> list[str]:
    """Of these ids, those of this name by any author, those with all its words, shortest first, then those that are spelt like it,
    with the author or without."""
    import difflib  # only mistakes need it

    wanted = name.lower()
    bare = wanted.rpartition("/")[2]
    words = _WORD.findall(wanted)
    whole = {each.lower(): each for each in ids}
    bares = {each.rpartition("/")[2]: known for each, known in whole.items()}
    found = [bares[bare]] if bare in bares and bare else []
    found += sorted((known for each, known in whole.items() if words and all(word in each for word in words)), key=len)
    for names, written in ((whole, wanted), (bares, bare)):
        found += [names[each] for each in difflib.get_close_matches(written, names, count)]
    return list(dict.fromkeys(found))[:count]
