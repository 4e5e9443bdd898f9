"""The suites live in the package, where pytest doesn't look for asserts to explain unless it is told."""

import pytest

pytest.register_assert_rewrite("amends.testing.contracts")
