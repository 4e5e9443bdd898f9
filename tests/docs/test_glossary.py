"""The glossary has each word that users meet, once, in order, with a page that explains it."""

import re
from pathlib import Path
from typing import Final, get_args

import pytest

from amends.core.run.record import RunState, StepState
from amends.core.words.keys import Phase
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import Guard, Kind, OnUnknown
from amends.core.words.values import Words
from amends.server.verbs import RunVerb

DOCS: Final = Path(__file__).parents[2] / "docs"
GLOSSARY: Final = DOCS / "reference" / "glossary.md"

ENTRY: Final = re.compile(r"^## (?P<word>.+)\n\n(?P<text>(?:(?!## ).*\n)+)", re.MULTILINE)
LINK: Final = re.compile(r"\[[^\]]+\]\((?P<page>[^)#]+)(?:#[^)]*)?\)")

SHOWN: Final[tuple[type[Words], ...]] = (RunState, StepState, StuckReason, Phase, Kind, Guard, OnUnknown)
"""Vocabularies whose members users read in states, lists, settings and code."""

STEP_VERBS: Final = ("probe", "resolve", "skip")
"""Verbs that name a step; those of a whole run are `RunVerb`."""

COINED: Final = (
    *("adopt", "answer", "append", "attempt", "barrier", "builder", "call", "circuit", "claim"),
    *("cause", "epoch", "mark", "move", "remedy", "scenario", "workshop", "world"),
    *(
        "decided file",
        "group commit",
        "guard",
        "history",
        "item",
        "keep",
        "key",
        "lane",
        "lease",
        "log",
        "notice",
        "operation",
    ),
    *("owed", "participant", "phase", "planted bug", "policy", "purge", "quarantined", "reply", "route", "run", "saga"),
    *("seal", "send gate", "step", "story", "suspect", "tombstone", "verb", "visitor", "worker"),
)
"""Words that the documentation's prose uses in a sense of its own."""


def entries() -> list[tuple[str, str]]:
    return [(each["word"], each["text"]) for each in ENTRY.finditer(GLOSSARY.read_text("utf-8"))]


def words() -> list[str]:
    return [word for word, _ in entries()]


@pytest.mark.parametrize("vocabulary", SHOWN, ids=lambda each: each.__name__)
def test_each_word_of_a_vocabulary_has_an_entry(vocabulary: type[Words]) -> None:
    assert len(vocabulary) > 0
    assert {str(each) for each in vocabulary} - set(words()) == set()


def test_each_verb_has_an_entry() -> None:
    assert {*get_args(RunVerb), *STEP_VERBS} - set(words()) == set()


def test_each_coined_word_has_an_entry() -> None:
    assert set(COINED) - set(words()) == set()


def test_entries_are_sorted_and_each_stands_once() -> None:
    assert words() == sorted(set(words()))


def test_each_heading_is_an_entry() -> None:
    assert re.findall(r"^#+ (.+)$", GLOSSARY.read_text("utf-8"), flags=re.MULTILINE)[1:] == words()


def test_each_entry_says_it_briefly_and_links_a_page_of_its_own() -> None:
    for word, text in entries():
        pages = [each["page"] for each in LINK.finditer(text)]
        assert pages, f"{word}: no link to the page that explains it"
        assert all((GLOSSARY.parent / page).is_file() for page in pages), f"{word}: {pages}"
        assert len(LINK.sub("", text).split()) <= 70, f"{word}: too long for an entry"
