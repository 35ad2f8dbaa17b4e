"""Who decides: one strategy, one small file, behind the interface of three methods."""

from mshv_async.sim.strategies.base import Strategy
from mshv_async.sim.strategies.continued import Continued
from mshv_async.sim.strategies.dfs import Dfs
from mshv_async.sim.strategies.dpor import Dpor
from mshv_async.sim.strategies.fair import Fair
from mshv_async.sim.strategies.fifo import Fifo
from mshv_async.sim.strategies.pct import Pct
from mshv_async.sim.strategies.portfolio import Portfolio
from mshv_async.sim.strategies.pos import Pos
from mshv_async.sim.strategies.random_walk import RandomWalk
from mshv_async.sim.strategies.replay import Replay
from mshv_async.sim.strategies.sampling import Sampling
from mshv_async.sim.strategies.settling import SettlingDfs, SettlingStates, TwoPhase
from mshv_async.sim.strategies.starve import Starve
from mshv_async.sim.strategies.stateful import Stateful
from mshv_async.sim.strategies.urw import Urw

__all__ = [
    "Continued",
    "Dfs",
    "Dpor",
    "Fair",
    "Fifo",
    "Pct",
    "Portfolio",
    "Pos",
    "RandomWalk",
    "Replay",
    "Sampling",
    "SettlingDfs",
    "SettlingStates",
    "Starve",
    "Stateful",
    "Strategy",
    "TwoPhase",
    "Urw",
]
