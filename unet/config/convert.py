"""Configurations from nested mappings and YAML, and back; every mistake is one line that names the key."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from unet.config.plain_yaml import parse_yaml
from unet.config.renamed import renamed
from unet.config.schema import Config
from unet.errors import ConfigError, nearest, one_line

_MOST_SHOWN = 160  # characters of a value in a message
MAX_YAML_BYTES = 128 * 2**10  # a configuration is a page of text; anything larger is a mistake or an attack


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dictionary of a configuration, tuples as lists (what YAML can hold)."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    return typing.cast("dict[str, Any]", plain(config))


def differences(config: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys in which two configurations differ, with the values of both."""
    theirs = to_dict(other)
    return {
        f"{section}.{key}": (value, theirs[section][key])
        for section, values in to_dict(config).items()
        for key, value in values.items()
        if value != theirs[section][key]
    }


def to_yaml(config: Any) -> str:
    """YAML text from which `load_yaml` makes an equal configuration."""
    text = yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True, width=120)
    if any(c in text for c in "\x85\u2028\u2029"):  # line breaks to YAML, which would become spaces
        text = yaml.safe_dump(to_dict(config), sort_keys=False, width=120)
    return str(text)


def from_dict(values: Mapping[str, Any], base: Config | None = None) -> Config:
    """Configuration from nested mappings; keys that are missing keep the value they have in `base` (default: Config()).

    Raises ConfigError with the key's full name for an unknown key, a value of the wrong type or out of range.
    """
    return typing.cast(Config, _merge(base if base is not None else Config(), values, ""))


def load_yaml(path: Path, base: Config | None = None) -> Config:
    """Configuration from a YAML file (safe loader; no tags, no aliases, at most 128 KiB)."""
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_YAML_BYTES} bytes; this is no configuration")
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {one_line(error)}") from None
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: expected keys such as 'optim:' and 'train:', found {type(values).__name__}")
    return from_dict(values, base)


def keys(config: Any = Config, prefix: str = "") -> Iterator[str]:
    """All dotted keys of the configuration, e.g. `optim.lr`."""
    hints = _hints(config)
    for f in dataclasses.fields(config):
        if dataclasses.is_dataclass(hints[f.name]):
            yield from keys(hints[f.name], f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}"


@cache
def _hints(section: Any) -> dict[str, Any]:
    """Types of a section's keys; Python reads the annotations anew at each call."""
    return typing.get_type_hints(section)


def _merge(base: Any, values: Mapping[str, Any], prefix: str) -> Any:
    hints = _hints(base.__class__)
    changes: dict[str, Any] = {}
    for key, value in values.items():
        key, value = renamed(f"{prefix}{key}", value)
        key = key.removeprefix(prefix)
        if key not in hints:
            raise ConfigError(f"unknown key {_shown(prefix + str(key))}{_suggest(prefix, str(key), hints)}")
        current = getattr(base, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{prefix}{key}: expected keys below it ({', '.join(to_dict(current))}), got {_shown(value)}"
                )
            changes[key] = _merge(current, value, f"{prefix}{key}.")
        else:
            changes[key] = _convert(value, hints[key], f"{prefix}{key}")
    return dataclasses.replace(base, **changes)


def _shown(value: Any) -> str:
    """A value as it was written, its middle left out where it is long."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 20]}...{text[-17:]}"


def _suggest(prefix: str, key: str, hints: Mapping[str, Any]) -> str:
    elsewhere = [full for full in keys() if full.split(".")[-1] == key]
    if elsewhere:
        return f"; did you mean {elsewhere[0]!r}?"
    return nearest(key, hints) or nearest(prefix + key, keys()) or f"; known here: {', '.join(hints)}"


def _convert(value: Any, kind: Any, key: str) -> Any:
    """`value` as the annotated type `kind`; numbers may be written as text (YAML reads 1e-3 as text)."""
    origin = get_origin(kind)
    if origin is Literal:
        options = get_args(kind)
        if value not in options or isinstance(value, bool):
            hint = nearest(str(value), map(str, options))
            raise ConfigError(f"{key}: {_shown(value)} is not one of {', '.join(map(str, options))}{hint}")
        return value
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _convert(value, next(a for a in get_args(kind) if a is not type(None)), key)
    if origin is tuple:
        items = get_args(kind)
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise ConfigError(f"{key}: expected a list, got {_shown(value)}")
        if items[-1] is Ellipsis:
            return tuple(_convert(v, items[0], key) for v in value)
        if len(value) != len(items):
            raise ConfigError(f"{key}: expected {len(items)} values, got {len(value)}")
        return tuple(_convert(v, t, key) for v, t in zip(value, items, strict=True))
    return _convert_scalar(value, kind, key)


def _convert_scalar(value: Any, kind: type, key: str) -> Any:
    if kind is bool or isinstance(value, bool):
        if kind is bool and isinstance(value, bool):
            return value
    elif kind is str and isinstance(value, str):
        return value
    elif kind in (int, float) and isinstance(value, (int, float, str)):
        try:
            number = float(value)
            if kind is float and number - number == 0:  # neither NaN nor infinite
                return number
            if kind is int and number == int(number):
                return int(value) if isinstance(value, int) else int(number)
        except (ValueError, OverflowError):
            pass
    raise ConfigError(f"{key}: {_shown(value)} is not {'an' if kind is int else 'a'} {_KIND_NAMES[kind]}")


_KIND_NAMES = {bool: "true or false", str: "text", int: "integer", float: "finite number"}
