"""Every change of state that a person makes to runs: one function per verb.

REST, admin, pages and the command line call these; nothing else changes a run's state. *by* is
the acting user (None: the machine's owner in the embedded default). Whether *by* may is the
caller's question, answered with ``visible_to``.
"""

from __future__ import annotations
