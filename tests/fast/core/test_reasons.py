"""Reasons of stuck runs: each says what happened and what to do."""

from amends.core.words.reasons import EXPLAINED, StuckReason


def test_every_reason_has_a_meaning_and_a_remedy() -> None:
    assert list(EXPLAINED) == list(StuckReason)
    for reason in StuckReason:
        for sentence in (reason.meaning, reason.remedy):
            assert sentence.endswith("."), reason
            assert sentence[0].isupper(), reason
