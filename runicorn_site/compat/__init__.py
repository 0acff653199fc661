"""Routes that the published clients of other versions ask for, and our own routes do not answer.

``v06``: routes of 0.6 and 0.7, beside ours. ``v05``: version 0.5 asks our own routes for other
answers, so it has a set of its own, which it gets by the address that it is given.
"""
