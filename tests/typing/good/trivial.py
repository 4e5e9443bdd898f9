"""The package is typed and can be imported."""

import amends

name: str = amends.__name__
