"""Reads the package's .sql files, where each statement or step has a name.

A name is a comment line of its own, ``-- name: lines``; what follows up to the
next one belongs to it, without its other comment lines.
"""

import re
from collections.abc import Mapping
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)


def load(file: str) -> Mapping[str, str]:
    """Return what the file holds, by name and in its order."""
    text = files(__package__).joinpath(file).read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    bodies = (_COMMENT.sub("", part).strip() for part in parts[1::2])
    return dict(zip(parts[::2], bodies, strict=True))
