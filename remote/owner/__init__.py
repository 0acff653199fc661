"""The one process that holds SSH connections, and how all others speak to it.

In the embedded default that is the server itself; on a team server it is the worker. ``ask`` (in
``asking``) calls one of the functions of ``calls`` there, ``state`` keeps the rows that tell what
it holds, and ``serving`` answers what other processes ask.
"""
