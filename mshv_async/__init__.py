"""Concurrent emulator and schedule explorer for the movable guest memory of Linux's mshv driver."""
