"""The oracle: invariants over a world, each in its own file. It reads and never changes.

Invariants watch the facts that the models tell (probes) and judge at the fact or at the end of the
step in which it happened. They know the rules of spec.md 6.3, nothing of any driver's bugs.
"""

from mshv_async.oracle.invariants import INVARIANTS, attach, invariant_list
from mshv_async.oracle.observed import Observed

__all__ = ["INVARIANTS", "Observed", "attach", "invariant_list"]
