"""Tools for testing sagas, services, and adapters that others write."""

from amends.testing.blocking import BlockingWorkshop as BlockingWorkshop
from amends.testing.blocking import OpenBlockingWorkshop as OpenBlockingWorkshop
from amends.testing.blocking import blocking_workshop as blocking_workshop
from amends.testing.clock import Clock as Clock
from amends.testing.clock import NothingIsDue as NothingIsDue
from amends.testing.conductor import Unsettled as Unsettled
from amends.testing.faults import FaultNeverFired as FaultNeverFired
from amends.testing.faults import Faults as Faults
from amends.testing.sent import Sent as Sent
from amends.testing.workshop import OpenWorkshop as OpenWorkshop
from amends.testing.workshop import Workshop as Workshop
from amends.testing.workshop import workshop as workshop
