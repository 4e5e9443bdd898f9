"""Where settings come from: flags win over `AMENDS_*` variables, these over `amends.toml`, which wins over defaults.

All three are laid over one another as plain values, path by path (`server.listen`), and converted once. The origin of a
value is remembered by its path, so that every error names the place to mend, and `amends config` can say where each is
from.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast, get_args, get_origin, get_type_hints

import msgspec

from amends.config.keep import Keep
from amends.config.settings import Section, Settings, convert
from amends.config.values import BadSetting, LeaseDuration, Seconds, Secret, Size

FILE: Final = "amends.toml"
PREFIX: Final = "AMENDS_"
NESTING: Final = "__"
DEFAULT: Final = "default"

OTHER_VARIABLES: Final = frozenset(
    {"AMENDS_CONFIG", "AMENDS_SERVER", "AMENDS_TOKEN", "AMENDS_CA", "AMENDS_CERT", "AMENDS_KEY"}
)
"""Variables that aren't settings of a server: where the settings are, and what clients are told."""

TESTS: Final = "AMENDS_TEST_"

ANY_NAME: Final = "[...]"

_PLACE: Final = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_INDEX: Final = re.compile(r"\[\d+\]")
_STEP: Final = re.compile(r"\.?([A-Za-z0-9_-]+)|\[(\d+|\.\.\.)\]")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and for each path that was set: where. `file` is what was read, `None` where there is none."""

    settings: Settings
    origins: Mapping[str, str] = field(default_factory=dict[str, str])
    file: Path | None = None

    def origin(self, path: str) -> str:
        """Where a value comes from: a flag, a variable, the file, or `default`."""
        path = _INDEX.sub("", path)  # `tokens[0].name` was set where `tokens` was
        within = next((who for known, who in self.origins.items() if known.startswith(f"{path}.")), None)
        if within is not None:
            return within
        while path:
            found = self.origins.get(path)
            if found is not None:
                return found
            path = path.rpartition(".")[0]
        return DEFAULT


@dataclass(frozen=True, slots=True)
class Flag:
    """A value said on the command line, and how the flag is called. `path`: `("server", "listen")`."""

    path: Sequence[str]
    value: object
    name: str


def load(
    flags: Iterable[Flag] = (),
    *,
    file: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Loaded:
    """Read the settings. Without `file` it is `$AMENDS_CONFIG`, or `amends.toml` here
    if there is one. `BadSetting` says what is wrong, where, and what is nearest to it.
    """
    variables = os.environ if environment is None else environment
    path = _file(file, variables)
    raw: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if path is not None:
        raw = _read(path)
        _check_keys(raw, Settings, "", str(path))
        origins.update(dict.fromkeys(_leaves(raw), str(path)))
    for name, text in sorted(variables.items()):
        if name.startswith(PREFIX) and name not in OTHER_VARIABLES and not name.startswith(TESTS):
            place = _path_of(name)
            _put(raw, place, _value(place, text, name), name)
            origins[".".join(place)] = name
    for flag in flags:
        _put(raw, flag.path, flag.value, flag.name)
        origins[".".join(flag.path)] = flag.name
    try:
        loaded = Loaded(convert(raw), origins, path)
    except msgspec.ValidationError as error:
        raise BadSetting(_told(_precisely(raw, str(error)), origins)) from error
    _check_keep(loaded)
    return loaded


def _check_keep(loaded: Loaded) -> None:
    """A history that is gone doesn't come back: a time that looks like a slip must be confirmed."""
    privacy = loaded.settings.privacy
    state = privacy.keep.short
    if state is not None and not privacy.keep_short:
        msg = (
            f"{loaded.origin('privacy.keep')}: privacy.keep: histories of {state} runs would be deleted after "
            f"{privacy.keep[state]}, less than an hour. If that is meant, set privacy.keep_short = true as well."
        )
        raise BadSetting(msg)


def _file(given: str | Path | None, variables: Mapping[str, str]) -> Path | None:
    named = given if given is not None else variables.get("AMENDS_CONFIG")
    if named is None:
        here = Path(FILE)
        return here if here.is_file() else None
    path = Path(named)
    if not path.is_file():
        msg = f"{path}: there is no such file."
        raise BadSetting(msg)
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: {error}."
        raise BadSetting(msg) from error
    except OSError as error:
        msg = f"{path}: {error.strerror}."
        raise BadSetting(msg) from error


# -- what is known by which name


def _check_keys(raw: Mapping[str, Any], section: type[Section], above: str, where: str) -> None:
    """Refuse keys that no section has: a setting with a slip in its name would do nothing, unnoticed."""
    types = {each.encode_name: each.type for each in msgspec.structs.fields(section)}
    for name, value in raw.items():
        path = f"{above}{name}"
        if name not in types:
            raise BadSetting(f"{where}: {path} is no setting. {_nearest(name, types, above)}")
        inner, shape = _section_in(types[name])
        if inner is None:
            continue
        for key, each in _sections(value, shape):
            _check_keys(each, inner, f"{path}{key}.", where)


def _sections(value: object, shape: type | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The sections in a value, with how they are named; what has another shape is told when it is converted."""
    if shape is None and isinstance(value, dict):
        yield "", cast("dict[str, Any]", value)
    elif shape is dict and isinstance(value, dict):
        for name, each in cast("dict[str, Any]", value).items():
            if isinstance(each, dict):
                yield f".{name}", cast("dict[str, Any]", each)
    elif shape is tuple and isinstance(value, list):
        listed: list[Any] = [*value]
        for index, each in enumerate(listed):
            if isinstance(each, dict):
                yield f"[{index}]", cast("dict[str, Any]", each)


def _section_in(type_: Any) -> tuple[type[Section] | None, type | None]:  # noqa: ANN401 - types are values here
    """The section that a type holds, and whether in a dict or a tuple."""
    origin = get_origin(type_)
    if isinstance(type_, type) and issubclass(type_, Section):
        return type_, None
    parts = get_args(type_)
    if origin in {dict, tuple}:
        inner = next((each for each in parts if isinstance(each, type) and issubclass(each, Section)), None)
        return inner, origin
    inner = next((each for each in parts if isinstance(each, type) and issubclass(each, Section)), None)
    return inner, None


def _nearest(name: str, known: Iterable[str], above: str = "") -> str:
    found = get_close_matches(name, list(known), n=1)
    if found:
        return f"Did you mean {above}{found[0]}?"
    return f"There are: {', '.join(f'{above}{each}' for each in known)}."


# -- variables


def variable_of(path: str) -> str:
    """The variable that sets a path: `server.listen` is `AMENDS_SERVER__LISTEN`."""
    return PREFIX + NESTING.join(each.upper().replace("-", "_").replace(".", "_") for each in path.split("."))


def _path_of(variable: str) -> list[str]:
    """The path that a variable sets; `BadSetting` names the nearest."""
    parts = variable.removeprefix(PREFIX).lower().split(NESTING)
    section: type[Section] = Settings
    found: list[str] = []
    for index, part in enumerate(parts):
        known = {each.encode_name: each.type for each in msgspec.structs.fields(section)}
        if part not in known:
            # Text of variables can't hold lists of sections, so these aren't named.
            nearest = get_close_matches(part, list(known), n=1)
            path = ".".join([*found, nearest[0]]) if nearest else ""
            hint = f"Did you mean {variable_of(path)}?" if path else "`amends config` lists them."
            raise BadSetting(f"{variable} is no setting. {hint}")
        found.append(part)
        inner, shape = _section_in(known[part])
        if inner is None:
            if index + 1 < len(parts) and get_origin(known[part]) is dict:
                return [*found, "_".join(parts[index + 1 :]).replace("_", "-")]
            if index + 1 < len(parts):
                raise BadSetting(f"{variable}: {'.'.join(found)} has no parts. Set {variable_of('.'.join(found))}.")
            return found
        if shape is tuple:
            raise BadSetting(f"{variable}: {part} are set in {FILE}.")
        section = inner
        if shape is dict:
            rest = parts[index + 1 :]
            if len(rest) < 2:
                raise BadSetting(f"{variable}: expected {variable_of(f'{part}.NAME.KEY')}.")
            name = rest[0].replace("_", "-")
            return [*found, name, *_path_in(inner, rest[1:], variable)]
    raise BadSetting(f"{variable}: {'.'.join(found)} is a section. Set one of its keys, as {variable}{NESTING}KEY.")


def _path_in(section: type[Section], parts: Sequence[str], variable: str) -> list[str]:
    known = {each.encode_name: each.type for each in msgspec.structs.fields(section)}
    first = parts[0]
    if first not in known:
        raise BadSetting(f"{variable} is no setting. {_nearest(first, known)}")
    inner, shape = _section_in(known[first])
    if len(parts) == 1:
        return [first]
    if get_origin(known[first]) is dict:
        return [first, NESTING.join(parts[1:]).replace("_", "-")]
    if inner is None or shape is not None:
        raise BadSetting(f"{variable}: {first} has no parts.")
    return [first, *_path_in(inner, parts[1:], variable)]


def _value(path: Sequence[str], text: str, variable: str) -> object:
    """What a text stands for, by the type of its setting: lists are separated by commas."""
    type_ = _type_of(path)
    kinds = {_bare(each) for each in (type_, *get_args(type_))}
    if get_origin(type_) is tuple:
        return [each.strip() for each in text.split(",") if each.strip()]
    if bool in kinds:
        return text.strip().lower() in {"1", "true", "yes"}
    if kinds & {Keep, LeaseDuration, Seconds, Size, Secret, str}:
        return text
    try:
        return int(text) if int in kinds else float(text)
    except ValueError:
        raise BadSetting(f"{variable}={text}: expected a number.") from None


def _bare(type_: Any) -> Any:  # noqa: ANN401 - types are values here
    """A type without what is annotated to it."""
    return get_args(type_)[0] if get_origin(type_) is Annotated else type_


def _type_of(path: Sequence[str]) -> Any:  # noqa: ANN401 - types are values here
    section: Any = Settings
    type_: Any = Settings
    names = iter(path)
    for name in names:
        type_ = next(each.type for each in msgspec.structs.fields(section) if each.encode_name == name)
        inner, shape = _section_in(type_)
        if shape is dict:
            next(names, None)
        if inner is None:
            return get_args(type_)[1] if get_origin(type_) is dict else type_
        section = inner
    return type_


# -- laying one over the other


def _put(raw: dict[str, Any], path: Sequence[str], value: object, who: str) -> None:
    where: dict[str, Any] = raw
    for name in path[:-1]:
        inner = where.setdefault(name, {})
        if not isinstance(inner, dict):
            raise BadSetting(f"{who}: {name} isn't a section in {FILE}.")
        where = cast("dict[str, Any]", inner)
    where[path[-1]] = value


def _leaves(raw: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in raw.items():
        if isinstance(value, dict):
            yield from _leaves(cast("dict[str, Any]", value), f"{above}{name}.")
        else:
            yield f"{above}{name}"


def _precisely(raw: Mapping[str, Any], text: str) -> str:
    """The same error with the name of the section it is in, where that is one of many: msgspec leaves names out."""
    if ANY_NAME not in text:
        return text
    for section in ("participants", "sagas"):
        for name, each in raw.get(section, {}).items():
            try:
                convert({section: {name: each}})
            except msgspec.ValidationError as error:
                return str(error).replace(f"{section}{ANY_NAME}", f"{section}.{name}").replace(ANY_NAME, "")
    return text


def _told(text: str, origins: Mapping[str, str]) -> str:
    """What is wrong, with the place in words of the settings and where it was set."""
    found = _PLACE.search(text)
    if found is None:
        return f"the settings can't be used: {text}."
    detail = text[: found.start()]
    steps = [name or f"[{index}]" for name, index in _STEP.findall(found["path"])]
    path = ".".join(steps).replace(".[", "[")
    if detail.startswith("Invalid enum value") and (choices := _choices(steps)):
        detail += f"; expected one of {', '.join(choices)}"
    where = next(
        (who for known, who in sorted(origins.items(), key=lambda each: -len(each[0])) if _is_at(path, known)), ""
    )
    return f"{where}: {path}: {detail}." if where else f"{path}: {detail}."


def _choices(steps: Sequence[str]) -> list[str]:
    """The values that may stand at a path of the settings; empty where any may."""
    type_: Any = Settings
    for step in steps:
        kinds = [_bare(each) for each in (type_, *get_args(_bare(type_)))]
        section = next((each for each in kinds if isinstance(each, type) and issubclass(each, msgspec.Struct)), None)
        if section is not None and not step.startswith("["):
            hints = get_type_hints(section, include_extras=True)
            named = {each.encode_name: each.name for each in msgspec.structs.fields(section)}
            type_ = hints.get(named.get(step, step))
        else:
            parts = get_args(next((each for each in kinds if get_origin(each) in {tuple, list, dict}), None))
            type_ = (parts[-1] if parts[-1] is not Ellipsis else parts[0]) if parts else None
    found = [each for kind in (type_, *get_args(type_)) if get_origin(kind) is Literal for each in get_args(kind)]
    return [str(each) for each in found]


def _is_at(path: str, known: str) -> bool:
    """Whether an error at `path` is about what was set at `known`, or within it."""
    return path == known or path.startswith((f"{known}.", f"{known}[")) or known.startswith(f"{path}.")
