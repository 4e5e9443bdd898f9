"""Runs over HTTP: `AsyncClient`, and `Client` for code that can't await. Needs nothing beside `pip install amends`."""

from amends.client.aio import AsyncClient as AsyncClient
from amends.client.blocking import Client as Client
