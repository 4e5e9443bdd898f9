"""Real processes on a real server, killed, stopped and crashed under load: nothing is lost, nothing happens twice."""

import pytest

from amends.testing.postgres_server import PostgresServer
from tests.real.postgres.storm import Weather, weather_through

STORMS = 30


async def test_kills_stops_and_crashes_under_load_lose_and_double_nothing(own_server: PostgresServer) -> None:
    told = await weather_through(Weather(seed=7, kills=2, stops=1, crashes=1, workers=2, orders_at_once=12), own_server)
    assert (told.happened["kill"], told.happened["stop"], told.happened["crash"]) == (2, 1, 1)
    assert told.happened["taken over"], "somebody's work was taken over: or this tests nothing"


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(STORMS))
async def test_ten_kills_a_stop_and_a_crash(own_server: PostgresServer, seed: int) -> None:
    """All together 300 kills and 30 crashes; cut up, so that a campaign that was stopped goes on in the middle."""
    told = await weather_through(Weather(seed=seed, kills=10, stops=1, crashes=1), own_server)
    assert (told.happened["kill"], told.happened["stop"], told.happened["crash"]) == (10, 1, 1)
    assert told.happened["taken over"]
