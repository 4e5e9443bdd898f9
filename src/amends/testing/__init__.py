"""Tools for testing sagas, services, and adapters that others write."""

from amends.core.retry import Guard as Guard
from amends.testing.blocking import BlockingWorkshop as BlockingWorkshop
from amends.testing.blocking import OpenBlockingWorkshop as OpenBlockingWorkshop
from amends.testing.blocking import blocking_workshop as blocking_workshop
from amends.testing.broken import BrokenPromise as BrokenPromise
from amends.testing.clock import Clock as Clock
from amends.testing.clock import NothingIsDue as NothingIsDue
from amends.testing.conductor import Unsettled as Unsettled
from amends.testing.faults import FaultNeverFired as FaultNeverFired
from amends.testing.faults import Faults as Faults
from amends.testing.moves import EVERY_FAULT as EVERY_FAULT
from amends.testing.moves import FaultKind as FaultKind
from amends.testing.never import NeverHappened as NeverHappened
from amends.testing.paths import BadPath as BadPath
from amends.testing.report import Report as Report
from amends.testing.report import TooManyWorlds as TooManyWorlds
from amends.testing.scenario import Scenario as Scenario
from amends.testing.sent import Sent as Sent
from amends.testing.simulate import Simulation as Simulation
from amends.testing.simulate import SimulationFailed as SimulationFailed
from amends.testing.simulate import simulate as simulate
from amends.testing.story import Story as Story
from amends.testing.story import Unexpected as Unexpected
from amends.testing.workshop import OpenWorkshop as OpenWorkshop
from amends.testing.workshop import Workshop as Workshop
from amends.testing.workshop import workshop as workshop
