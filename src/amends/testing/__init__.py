"""Tools for testing sagas, services, and adapters that others write."""

from amends.core.words.retry import Guard as Guard
from amends.testing.broken import BrokenPromise as BrokenPromise
from amends.testing.explore.moves import EVERY_FAULT as EVERY_FAULT
from amends.testing.explore.moves import FaultKind as FaultKind
from amends.testing.explore.never import NeverHappened as NeverHappened
from amends.testing.explore.paths import BadPath as BadPath
from amends.testing.explore.report import Report as Report
from amends.testing.explore.report import TooManyWorlds as TooManyWorlds
from amends.testing.explore.scenario import Scenario as Scenario
from amends.testing.explore.story import Story as Story
from amends.testing.explore.story import Unexpected as Unexpected
from amends.testing.simulation.simulate import Simulation as Simulation
from amends.testing.simulation.simulate import SimulationFailed as SimulationFailed
from amends.testing.simulation.simulate import simulate as simulate
from amends.testing.workshop.blocking import BlockingWorkshop as BlockingWorkshop
from amends.testing.workshop.blocking import OpenBlockingWorkshop as OpenBlockingWorkshop
from amends.testing.workshop.blocking import blocking_workshop as blocking_workshop
from amends.testing.workshop.clock import Clock as Clock
from amends.testing.workshop.clock import NothingIsDue as NothingIsDue
from amends.testing.workshop.conductor import Unsettled as Unsettled
from amends.testing.workshop.faults import FaultNeverFired as FaultNeverFired
from amends.testing.workshop.faults import Faults as Faults
from amends.testing.workshop.sent import Sent as Sent
from amends.testing.workshop.workshop import OpenWorkshop as OpenWorkshop
from amends.testing.workshop.workshop import Workshop as Workshop
from amends.testing.workshop.workshop import workshop as workshop
