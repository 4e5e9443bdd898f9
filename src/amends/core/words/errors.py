"""Errors, split by the party that must act.

`Rejected`, `Later` and `CannotCompensate` are answers, raised by the code of authors and services; they are not
failures of amends and therefore do not derive from `AmendsError`. Everything amends itself complains about does.
"""

from collections.abc import Iterable
from datetime import timedelta


class Rejected(Exception):
    """A definite no without any effect: raised by a service, a local step or a builder.

    `code` is for programs (`"card-declined"`), `detail` for people. Any other exception means "it may have happened".
    """

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code


class Later(Exception):
    """The work was taken on and what was written is kept; the answer will be given later, by callback."""


class CannotCompensate(Exception):
    """The service says for good that it can't undo this by itself: a person must look."""

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code


class AmendsError(Exception):
    """Base of every error that amends reports about itself or its use."""


class DefinitionInvalid(AmendsError):
    """The definitions of sagas have mistakes; all of them are listed, each with where and what to do."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class InputInvalid(AmendsError):
    """The input of a run isn't of the saga's input type; `path` says where (`$.lines[2].quantity`)."""

    def __init__(self, detail: str, *, path: str = "$") -> None:
        super().__init__(detail)
        self.detail = detail
        self.path = path


class TooLarge(AmendsError):
    """Something is larger than its limit allows; the message names both, in bytes or as a count."""


class RunExists(AmendsError):
    """Another run was started under this id with another saga or input."""


class NoSuchRun(AmendsError):
    """The log knows no run under this id."""


class NoSuchSaga(AmendsError):
    """No saga of this name, or version, is loaded in this process."""


class NoSuchReply(AmendsError):
    """The run has no reply of this step: its version has no such step."""


class NoRoute(AmendsError):
    """A participant that the sagas need has no address."""


class Overloaded(AmendsError):
    """Too much is waiting to be taken on; try again after `retry_after`."""

    def __init__(self, detail: str, *, retry_after: timedelta) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Refused(AmendsError):
    """What a person asked of a run can't be done as it stands; `problem` is the machine-readable name."""

    def __init__(self, problem: str, detail: str, *, status: int = 409) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail
        self.status = status


class PastPivot(Refused):
    """The run is past its point of no return: it can only go forward."""

    def __init__(self, detail: str) -> None:
        super().__init__("past-pivot", detail)


class Changed(AmendsError):
    """What was asked was meant for a version of the run's history that it isn't at any more."""


class ServerUnavailable(AmendsError):
    """A server can't be reached, didn't answer, or isn't well: whether a request arrived isn't known."""


class NotAllowed(AmendsError):
    """The server doesn't know the caller, or the caller may not do this."""


class LogInUse(AmendsError):
    """Another process owns this log."""


class LogDamaged(AmendsError):
    """The log can't be read as one; nothing was changed."""


class LogUnavailable(AmendsError):
    """The log can't be written or reached now; what was not acknowledged isn't stored."""


class LogTooSlow(LogUnavailable):
    """A list was given up because it took too long. The log works: ask for less, or again later."""


class LogUnclear(LogUnavailable):
    """It isn't known whether what was being written is stored: it is settled by sending the same once more."""


class LogBroken(LogUnavailable):
    """The log can't be written any more by this process: stop it, and resume by starting anew."""


class SchemaMismatch(AmendsError):
    """The log's tables are older or newer than this program, or not there; the message says what to do."""


class DefinitionNotHere(AmendsError):
    """The run began with a definition that this process hasn't loaded."""
