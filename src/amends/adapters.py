"""Where the calls of a process queue: a lane for every participant that has a route, and one for each saga's own work.

Which transport a route is opened as is chosen by their maker (`amends.orchestrator`).
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Final

from amends.core.run.answers import Came, NotSent
from amends.core.run.definition import Definition
from amends.core.run.record import BUILT_IN, LOCAL
from amends.core.saga.operation import AT_ONCE_DEFAULT, Route
from amends.core.words.errors import AmendsError, NoRoute
from amends.core.words.keys import Phase
from amends.engine.active_run import Ready
from amends.engine.circuit import Circuit
from amends.engine.failure_log import hides_values
from amends.engine.lanes import Lane, Standing, standing
from amends.ports.transport import Outgoing, Reloadable, Transport
from amends.transports.in_process import LocalTransport, LocalWork, local_action, local_compensation

LOCAL_AT_ONCE: Final = 256
"""Steps done in this process at a time, per saga; those that block share as many threads as the machine bears."""


class Lanes:
    """The queue in front of every participant, and in front of each saga's own work."""

    def __init__(
        self,
        definitions: Iterable[Definition],
        routes: Iterable[Route],
        opened: Callable[[Route], Transport],
        around: Callable[[Transport], Transport] | None = None,
    ) -> None:
        self._lanes: dict[str, Lane[Ready]] = {}
        self._local: dict[int, Lane[Ready]] = {}
        self._working: list[LocalTransport] = []
        listed = list(definitions)
        given = {route.participant: route for route in routes}
        self._where = {name: _shown(route.where) for name, route in given.items()}
        missing = [
            _no_route(definition, participant)
            for definition in listed
            for participant in definition.participants
            if participant not in given and participant not in BUILT_IN
        ]
        if missing:
            raise NoRoute("\n".join(dict.fromkeys(missing)))
        for name, route in given.items():
            transport = opened(route)
            self._lanes[name] = Lane(
                name, around(transport) if around else transport, route.at_once, Circuit(route.circuit)
            )
        for definition in listed:
            transport = LocalTransport(_finder(definition), at_once=AT_ONCE_DEFAULT)
            self._working.append(transport)
            self._local[id(definition)] = Lane(LOCAL, around(transport) if around else transport, LOCAL_AT_ONCE)

    def lane_of(self, definition: Definition, participant: str) -> Lane[Ready]:
        """Where calls to this participant queue."""
        if participant == LOCAL:
            return self._local[id(definition)]
        try:
            return self._lanes[participant]
        except KeyError:
            lane = self._lanes[participant] = Lane(participant, Nowhere(participant), AT_ONCE_DEFAULT)
            return lane

    @property
    def by_participant(self) -> Mapping[str, Lane[Ready]]:
        """The lanes to participants, without those of work done here."""
        return self._lanes

    def reload(self) -> list[str]:
        """Read certificates again; what went wrong. What can't be read stays as it was."""
        wrong: list[str] = []
        for lane in self._lanes.values():
            if isinstance(lane.transport, Reloadable):
                try:
                    lane.transport.reload()
                except AmendsError as error:
                    wrong.append(f"participants.{lane.participant}: {error}")
        return wrong

    def standing(self) -> list[Standing]:
        """How things stand with every participant that has a route."""
        return [standing(each, self._where.get(each.participant, "")) for each in self._lanes.values()]

    def at_work(self) -> dict[str, Future[Came]]:
        """Work of calls that is done in this process, by key; also where its answer is not waited for any more."""
        return {key: job for each in self._working for key, job in each.at_work.items()}

    async def close(self) -> None:
        """Let go of all connections and threads."""
        for lane in (*self._lanes.values(), *self._local.values()):
            await lane.transport.close()


class Nowhere:
    """A participant that turned up in a built call and has no route: nothing is sent, and the run waits."""

    def __init__(self, participant: str) -> None:
        self._participant = participant

    async def send(self, call: Outgoing) -> NotSent:
        """Say that there is no way."""
        return NotSent(f"no route for {self._participant}, which {call.step} calls")

    async def close(self) -> None:
        """Nothing to let go of."""


def _no_route(definition: Definition, participant: str) -> str:
    owner = definition.owner_of(participant)
    return (
        f"no route for {owner}, which {definition.saga} v{definition.version} needs. "
        f'Add {owner}.at("http://...") or [participants.{participant}] url = ... in amends.toml.'
    )


def _finder(definition: Definition) -> Callable[[str, Phase], LocalWork | None]:
    known: dict[tuple[str, Phase], LocalWork] = {}
    hides = hides_values(definition)
    for step in definition.steps.values():
        if not step.is_local:
            continue
        action = local_action(step.function, definition.codec, step.argument_types)
        known[step.name, Phase.ACTION] = replace(action, hides=hides)
        if step.undo_function is not None:
            undo = local_compensation(step.undo_function, definition.codec, step.undo_input_type, step.reply_type)
            known[step.name, Phase.COMPENSATION] = replace(undo, hides=hides)
    return lambda operation, phase: known.get((operation, phase))


def _shown(where: object) -> str:
    """An address without the name and password that may stand in it; nothing for what is in this process."""
    if not isinstance(where, str) or "://" not in where:
        return ""
    scheme, _, rest = where.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"
