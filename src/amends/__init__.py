"""amends: distributed transactions as sagas.

A transaction over services that each own their data is a graph of steps; when a step says no, everything already done
is undone in the opposite order. Nothing is lost, nothing happens twice, and what a machine can't settle is handed to a
person.
"""

from amends.client.aio import AsyncClient as AsyncClient
from amends.client.blocking import Client as Client
from amends.compose import Orchestrator as Orchestrator
from amends.compose import run as run
from amends.core.declare import CompensableStep as CompensableStep
from amends.core.declare import Step as Step
from amends.core.errors import AmendsError as AmendsError
from amends.core.errors import CannotCompensate as CannotCompensate
from amends.core.errors import DefinitionInvalid as DefinitionInvalid
from amends.core.errors import DefinitionNotHere as DefinitionNotHere
from amends.core.errors import InputInvalid as InputInvalid
from amends.core.errors import Later as Later
from amends.core.errors import LogBroken as LogBroken
from amends.core.errors import LogDamaged as LogDamaged
from amends.core.errors import LogInUse as LogInUse
from amends.core.errors import LogUnavailable as LogUnavailable
from amends.core.errors import NoRoute as NoRoute
from amends.core.errors import NoSuchReply as NoSuchReply
from amends.core.errors import NoSuchRun as NoSuchRun
from amends.core.errors import NoSuchSaga as NoSuchSaga
from amends.core.errors import NotAllowed as NotAllowed
from amends.core.errors import Overloaded as Overloaded
from amends.core.errors import PastPivot as PastPivot
from amends.core.errors import Refused as Refused
from amends.core.errors import Rejected as Rejected
from amends.core.errors import RunExists as RunExists
from amends.core.errors import ServerUnavailable as ServerUnavailable
from amends.core.errors import TooLarge as TooLarge
from amends.core.operation import Call as Call
from amends.core.operation import CircuitLimits as CircuitLimits
from amends.core.operation import Operation as Operation
from amends.core.operation import Participant as Participant
from amends.core.operation import Rest as Rest
from amends.core.operation import Route as Route
from amends.core.operation import Undo as Undo
from amends.core.operation import ask as ask
from amends.core.operation import blocking as blocking
from amends.core.operation import operation as operation
from amends.core.operation import sleep as sleep
from amends.core.operation import sleep_until as sleep_until
from amends.core.outcomes import Abandoned as Abandoned
from amends.core.outcomes import Compensated as Compensated
from amends.core.outcomes import Completed as Completed
from amends.core.outcomes import Ended as Ended
from amends.core.outcomes import Outcome as Outcome
from amends.core.outcomes import Stuck as Stuck
from amends.core.outcomes import Unfinished as Unfinished
from amends.core.retry import Policy as Policy
from amends.core.retry import Retry as Retry
from amends.core.saga import Redacted as Redacted
from amends.core.saga import Saga as Saga
from amends.core.state import RunState as RunState
from amends.core.state import StepState as StepState
from amends.ports.runs import Run as Run
from amends.ports.runs import Runs as Runs
from amends.ports.this_call import CallInfo as CallInfo
from amends.ports.this_call import this_call as this_call
