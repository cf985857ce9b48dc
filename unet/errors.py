"""The errors a user can cause and fix; each message is one clear line that says what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Something only the user can fix. The command line prints the message alone and exits with 2."""

    exit_code = 2


class ConfigError(UserError):
    """An unknown key or a bad value in the configuration."""


class DataError(UserError):
    """Data that is missing, unreadable or inconsistent."""


class Problems(DataError):
    """Several things that are wrong with a folder; the command line prints them one a line, at most ten."""

    most = 10

    def __init__(self, folder: object, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        left = len(self.problems) - self.most
        self.head = f"{folder}: {len(self.problems)} problem{'s' * (len(self.problems) > 1)} to fix:"
        self.shown = [*self.problems[: self.most], *([f"and {left} more"] if left > 0 else [])]
        super().__init__(f"{self.head} {'; '.join(self.shown)}")


class GeometryError(UserError):
    """A tile size that the network cannot take."""


class RunError(UserError):
    """A run folder or checkpoint that cannot be used as asked."""


class TrainingError(UserError):
    """Training cannot go on (loss not finite, memory exhausted); the last good checkpoint is kept."""


class Diverged(TrainingError):
    """The loss, a gradient or a weight is no longer finite, or the loss exploded: a result of the settings."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'X'?" for the closest known word, or "" when none is close."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of several names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def one_line(error: BaseException) -> str:
    """The message of an exception folded to one line (library errors often span many)."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def is_unicode(text: str) -> bool:
    """Whether a name can be written into a text file: names in other encodings come from the system as surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str, keep: str = "") -> str:
    """Control characters, line ends and lone surrogates written out (`\\n`, `\\x1b`), but for those in `keep`.

    Names of files may hold any of them: unchanged they would forge lines, move the cursor, or not print at all.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
