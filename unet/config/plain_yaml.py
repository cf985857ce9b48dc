"""Plain values from YAML that may come from anybody: no tags, no aliases, no depth that takes for ever to read."""

from __future__ import annotations

from typing import Any

import yaml

MOST_DEPTH = 20
_OPENS = ("[", "{", "<block sequence start>", "<block mapping start>")
_CLOSES = ("]", "}", "<block end>")


def parse_yaml(text: str) -> Any:
    """Values of a YAML text; yaml.YAMLError for what a configuration never needs.

    Tags name types to be made, a few aliases can stand for gigabytes, and the time of reading grows with the square of
    the depth.
    """
    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, (yaml.AliasToken, yaml.TagToken)):
            raise yaml.YAMLError("aliases (*name) and tags (!name) are not accepted in a configuration")
        kind = getattr(token, "id", "")
        depth += (kind in _OPENS) - (kind in _CLOSES)
        if depth > MOST_DEPTH:
            raise yaml.YAMLError("nested too deeply for a configuration")
    return yaml.safe_load(text) or {}
