"""Routes for the published clients of other versions that our own routes do not serve.

``v06``: routes of 0.6 and 0.7, beside ours. ``v05``: version 0.5 expects other answers from our
own routes, so it has its own set, which its user selects with the server's address.
"""
