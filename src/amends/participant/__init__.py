"""The SDK for services: a `Service` with the barrier around its handlers."""

from amends.participant.access import TokenFile as TokenFile
from amends.participant.barrier import Blocked as Blocked
from amends.participant.response import Answer as Answer
from amends.participant.service import Service as Service
from amends.ports.inbox import AsyncInbox as AsyncInbox
from amends.ports.inbox import Inbox as Inbox
