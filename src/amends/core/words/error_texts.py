"""Texts of exceptions that an author's code raises, fit for the log and for terminals.

Nothing here raises: an exception whose `__str__` fails, or whose text can't be encoded, is still a failure to tell.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from amends.core.words.limits import DETAIL_CHARACTERS_MAX

CODE_CHARACTERS_MAX: Final = 128
UNREADABLE: Final = "its text can't be read"


def text_of(error: BaseException) -> str:
    """The exception's text, also where its own `__str__` raises."""
    return _text(error)


def told(error: BaseException) -> str:
    """`ValueError: bad date`; the type's name alone where there is no text."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def words_of(error: BaseException) -> tuple[str | None, str]:
    """Code and detail of a `Rejected` or `CannotCompensate` as text, whatever its author put into them."""
    code, detail = _attribute(error, "code"), _attribute(error, "detail")
    return None if code is None else _text(code), told(error) if detail is None else _text(detail)


def no_of(error: BaseException) -> tuple[str | None, str]:
    """The same, fit for a log and a terminal."""
    code, detail = words_of(error)
    return None if code is None else clean(code)[:CODE_CHARACTERS_MAX] or None, clean(detail)


def clean(text: str) -> str:
    """Fit for a log and a terminal: one line, nothing that steers a screen or can't be encoded, not too long."""
    text = cut(text, DETAIL_CHARACTERS_MAX)
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text).strip()


def moment_text(micros: int) -> str:
    """`2026-03-02 02:24:10 UTC`: a moment at which something is possible, so seconds are rounded up."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=-(-micros // 1_000_000))
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def cut(text: str, characters: int) -> str:
    """The beginning of a text that is longer than this, with a mark that shows the cut."""
    return text if len(text) <= characters else text[: characters - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _text(value: object) -> str:
    try:
        return str(value)
    except BaseException:  # noqa: BLE001 - the author's `__str__` may raise anything, and the failure must be told
        return UNREADABLE


def _attribute(error: BaseException, name: str) -> Any:  # noqa: ANN401 - an author's class may hold anything there
    try:
        return getattr(error, name, None)
    except Exception:  # noqa: BLE001 - a property of an author's class
        return None
