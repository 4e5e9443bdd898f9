"""The statements of `queries.sql`, by name, read once."""

from typing import Final

from amends.logs.named_sql import resource, statements

SQL: Final = statements(resource("amends.logs.postgres", "queries.sql"))


def numbered(sql: str) -> str:
    """A statement put together from conditions, with its `?` made `$1`, `$2` and so on."""
    first, *rest = sql.split("?")
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))
