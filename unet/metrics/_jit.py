"""The compiler of the inner loops. Imported only when a score is computed: loading it takes a while."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def jit(function: Function) -> Function:
    """Compile and keep the result on disk, where there is a folder to keep it in and what lies there can be used."""
    try:
        compiled = numba.njit(cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        return numba.njit(function)  # type: ignore[no-any-return]
    if hasattr(compiled, "_cache"):  # not where NUMBA_DISABLE_JIT leaves the function as it is
        compiled._cache = _Forgiving(compiled._cache)
    return compiled  # type: ignore[no-any-return]


class _Forgiving:
    """Numba's cache of one function; what is damaged or cannot be written is passed over, with one line in all."""

    told = False

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, signature: Any, context: Any) -> Any:
        """What was compiled before; None, after which it is compiled anew, where that cannot be read."""
        try:
            return self._cache.load_overload(signature, context)
        except Exception as error:  # whatever a damaged pickle may lead to
            self._tell("read", error)
            with suppress(Exception):
                self._cache.flush()  # an empty index in place of the damaged one
            return None

    def save_overload(self, signature: Any, data: Any) -> None:
        """Keep what was compiled, where that is possible."""
        try:
            self._cache.save_overload(signature, data)
        except Exception as error:
            self._tell("written", error)

    def _tell(self, what: str, error: Exception) -> None:
        if not _Forgiving.told:
            _Forgiving.told = True
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            with suppress(OSError, ValueError):
                print(
                    f"unet: numba's cache {self._cache.cache_path} cannot be {what} ({reason}); compiled without it",
                    file=sys.stderr,
                )
