"""Plain values from YAML that may come from anybody: no tags, no aliases, no depth that takes for ever to read."""

from __future__ import annotations

import re
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _Safe  # libyaml: ten times as fast
except ImportError:  # a PyYAML built without it
    from yaml import SafeLoader as _Safe  # type: ignore[assignment]

MOST_DEPTH = 20
_OPENS = ("[", "{", "<block sequence start>", "<block mapping start>")
_CLOSES = ("]", "}", "<block end>")


class _Loader(_Safe):
    """YAML without dates and without numbers to the base of 60 (`1:30`), which it left out itself in version 1.2."""


_UNWANTED = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in _UNWANTED]
    for first, found in _Safe.yaml_implicit_resolvers.items()
}
_INT = r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"
_FLOAT = (
    r"(?:(?:[-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(_INT), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(_FLOAT), list("-+0123456789."))


def parse_yaml(text: str) -> Any:
    """Values of a YAML text; yaml.YAMLError for what a configuration never needs.

    Tags name types to be made, a few aliases can stand for gigabytes, and the time of reading grows with the square of
    the depth.
    """
    depth = 0
    for token in yaml.scan(text, Loader=_Safe):
        if isinstance(token, (yaml.AliasToken, yaml.TagToken)):
            raise yaml.YAMLError("aliases (*name) and tags (!name) are not accepted in a configuration")
        kind = getattr(token, "id", "")
        depth += (kind in _OPENS) - (kind in _CLOSES)
        if depth > MOST_DEPTH:
            raise yaml.YAMLError("nested too deeply for a configuration")
    loader = _Loader(text)
    try:
        return loader.get_single_data() or {}
    except ValueError as error:  # a number of thousands of digits
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()
