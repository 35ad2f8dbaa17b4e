"""Named changes to stack on a profile, one module each. ``select.py`` knows them all."""
