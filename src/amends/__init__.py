"""amends: distributed transactions as sagas.

A transaction over services that each own their data is a graph of steps; when a step says no, everything already done
is undone in the opposite order. Nothing is lost, nothing happens twice, and what a machine can't settle is handed to a
person.
"""

from amends.client.aio import AsyncClient
from amends.client.blocking import Client
from amends.core.run.record import RunState, StepState
from amends.core.saga.operation import (
    Call,
    CircuitLimits,
    Operation,
    Participant,
    Rest,
    Route,
    Undo,
    ask,
    blocking,
    operation,
    sleep,
    sleep_until,
)
from amends.core.saga.outcomes import Abandoned, Compensated, Completed, Ended, Outcome, Stuck, Unfinished
from amends.core.saga.saga import Redacted, Saga
from amends.core.saga.steps import CompensableStep, Step
from amends.core.words.errors import (
    AmendsError,
    CannotCompensate,
    DefinitionInvalid,
    DefinitionNotHere,
    InputInvalid,
    Later,
    LogBroken,
    LogDamaged,
    LogInUse,
    LogUnavailable,
    NoRoute,
    NoSuchReply,
    NoSuchRun,
    NoSuchSaga,
    NotAllowed,
    Overloaded,
    PastPivot,
    Refused,
    Rejected,
    RunExists,
    ServerUnavailable,
    TooLarge,
)
from amends.core.words.retry import Policy, Retry
from amends.orchestrator import Orchestrator, run
from amends.ports.runs import Run, Runs
from amends.wire.this_call import CallInfo, this_call

__all__ = [
    "Abandoned",
    "AmendsError",
    "AsyncClient",
    "Call",
    "CallInfo",
    "CannotCompensate",
    "CircuitLimits",
    "Client",
    "CompensableStep",
    "Compensated",
    "Completed",
    "DefinitionInvalid",
    "DefinitionNotHere",
    "Ended",
    "InputInvalid",
    "Later",
    "LogBroken",
    "LogDamaged",
    "LogInUse",
    "LogUnavailable",
    "NoRoute",
    "NoSuchReply",
    "NoSuchRun",
    "NoSuchSaga",
    "NotAllowed",
    "Operation",
    "Orchestrator",
    "Outcome",
    "Overloaded",
    "Participant",
    "PastPivot",
    "Policy",
    "Redacted",
    "Refused",
    "Rejected",
    "Rest",
    "Retry",
    "Route",
    "Run",
    "RunExists",
    "RunState",
    "Runs",
    "Saga",
    "ServerUnavailable",
    "Step",
    "StepState",
    "Stuck",
    "TooLarge",
    "Undo",
    "Unfinished",
    "ask",
    "blocking",
    "operation",
    "run",
    "sleep",
    "sleep_until",
    "this_call",
]
