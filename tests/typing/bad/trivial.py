"""The package is typed: a wrong use of what it holds is seen."""

import amends

name: int = amends.__name__  # expect: mypy[assignment] pyright[reportAssignmentType]
