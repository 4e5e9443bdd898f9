"""Settings for every test: property tests never race a clock, and are the same ones each time on a build machine."""

import os

from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

pytest_plugins = ["tests.support.postgres"]
