"""Find out with which code the interpreter exits.

No hook is told of a SystemExit that ends the program. The interpreter asks it for its ``code``
then, when no Python function runs any more, and there we listen: ``SystemExit.code`` answers as
before and notes what it said. CPython offers no door for this, so the class is changed in place;
where that fails, only what is given to ``sys.exit`` is known.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, NoReturn

UNKNOWN = object()

_code: Any = UNKNOWN
_is_listening = False


def last() -> Any:
    """Return the code that the program ends with, or UNKNOWN if no SystemExit ends it."""
    return _code


def forget() -> None:
    """What ended before does not count: the program goes on."""
    global _code
    _code = UNKNOWN


def listen() -> None:
    """Listen from now on. May be called once."""
    global _is_listening
    try:
        _listen_to_the_interpreter()
        _is_listening = True
    except Exception:  # another Python, which keeps its classes in another way
        pass
    leave = sys.exit
    ours = _exit_like(leave)
    sys.exit = ours
    # Those who imported it by name, too: ``from sys import exit``.
    for module in list(sys.modules.values()):
        try:
            attributes = vars(module)
            names = list(attributes) if attributes.get("__name__") == "__main__" else ["exit"]
            for name in names:
                if attributes.get(name) is leave:
                    setattr(module, name, ours)
        except Exception:  # what is no module, or one that lets nobody change it
            pass


def _listen_to_the_interpreter() -> None:
    import ctypes
    import gc

    member = SystemExit.__dict__["code"]
    (attributes,) = gc.get_referents(SystemExit.__dict__)

    def code(error: SystemExit) -> Any:
        global _code
        value = member.__get__(error)
        if sys._getframe().f_back is None:
            _code = value
        return value

    attributes["code"] = property(code, member.__set__, member.__delete__, member.__doc__)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(SystemExit))


def _exit_like(leave: Callable[..., NoReturn]) -> Callable[..., NoReturn]:
    """Return a ``sys.exit`` that makes a SystemExit at once: Python 3.11's own does so only when
    somebody catches it, and is asked for no code."""

    @functools.wraps(leave)
    def exit(status: Any = None, /) -> NoReturn:
        global _code
        if not _is_listening:
            _code = status
        raise SystemExit(*status) if isinstance(status, tuple) else SystemExit(status)

    return exit
