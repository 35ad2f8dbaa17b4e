"""Named changes to stack on a profile, one module each. ``select.py`` knows them all.

A patch overrides as few functions as it can, so that most go together in any order. Those that
wrap a function (``extends``) come after those that replace it. ``fix1`` takes all that are for it
together, in the order of ``list patches``.

``shortage`` is no patch: what several of them share.
"""
