"""Fair lassos of small graphs: a thread kept waiting by the program, and by the scheduler only."""

from __future__ import annotations

import random
from itertools import pairwise, product

import pytest

from mshv_async.sim.lasso import Edge, Node, fair_lasso

A, B, C = 1, 2, 3


def ring(n, *, thread=A, progressed=()):
    """A ring of ``n`` states that one thread goes round; it makes progress with the last step."""
    return [Edge(i, thread, (i + 1) % n, progressed if i == n - 1 else ()) for i in range(n)]


def nodes(n, enabled=(A,), owing=(A,)):
    return {i: Node(enabled, owing) for i in range(n)}


def check(lasso, given, edges):
    """A lasso is what it says: closed, of edges of the graph, fair, and without progress."""
    loop = lasso.loop
    assert set(loop) <= set(edges)
    assert loop[0].source == loop[-1].target == lasso.stem
    assert all(a.target == b.source for a, b in pairwise(loop))
    assert {t for e in loop for t in given[e.source].enabled} <= {e.thread for e in loop}
    assert all(lasso.waiting in given[e.source].owing for e in loop)
    assert not any(lasso.waiting in e.progressed for e in loop)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_thread_that_goes_round_for_ever_is_a_lasso_of_that_length(n):
    lasso = fair_lasso(nodes(n), ring(n))
    check(lasso, nodes(n), ring(n))
    assert (lasso.waiting, len(lasso.loop)) == (A, n)


def test_a_thread_that_progresses_in_every_turn_of_the_loop_is_none():
    assert fair_lasso(nodes(4), ring(4, progressed=(A,))) is None


def test_a_loop_in_which_nobody_owes_anything_is_none():
    assert fair_lasso(nodes(4, owing=()), ring(4)) is None


def test_a_thread_that_owes_for_a_part_of_the_loop_only_is_none():
    given = nodes(4) | {2: Node((A,), ())}
    assert fair_lasso(given, ring(4)) is None


def test_a_loop_that_an_enabled_thread_could_leave_but_never_gets_to_is_no_fair_one():
    # B could end A's wait at state 0; that it never runs is the scheduler's fault.
    given = nodes(3) | {0: Node((A, B), (A,)), 3: Node((), ())}
    edges = [*ring(3), Edge(0, B, 3, (A,))]
    assert fair_lasso(given, edges) is None


def test_whoever_waits_without_being_enabled_is_blamed_though_it_takes_no_step():
    lasso = fair_lasso(nodes(2, enabled=(B,), owing=(A,)), ring(2, thread=B))
    assert lasso.waiting == A
    assert {edge.thread for edge in lasso.loop} == {B}


def test_two_threads_have_both_to_run_in_the_loop():
    # A goes round alone at 0-1; only the detour over 2 lets B run as well.
    given = nodes(3, enabled=(A, B))
    edges = [*ring(2), Edge(1, B, 2), Edge(2, A, 0)]
    lasso = fair_lasso(given, edges)
    check(lasso, given, edges)
    assert {edge.thread for edge in lasso.loop} == {A, B}


def test_a_fair_loop_is_found_inside_one_that_is_not():
    # The whole is one component, in which C is enabled at 4 and never runs; 0-1 stays.
    given = nodes(5, enabled=(A,)) | {4: Node((A, C), (A,))}
    edges = [*ring(2), Edge(1, A, 2), Edge(2, A, 3), Edge(3, A, 4), Edge(4, A, 0)]
    lasso = fair_lasso(given, edges)
    check(lasso, given, edges)
    assert {edge.source for edge in lasso.loop} <= {0, 1}


def test_a_loop_inside_one_that_is_not_fair_either_is_none():
    given = {0: Node((A, B), (A,)), 1: Node((A,), (A,)), 2: Node((A, C), (A,))}
    edges = [Edge(0, A, 1), Edge(1, A, 0), Edge(1, A, 2), Edge(2, A, 0)]
    assert fair_lasso(given, edges) is None


def test_progress_of_another_thread_does_not_excuse():
    given = nodes(4, enabled=(A, B), owing=(A, B))
    edges = [*ring(4), Edge(0, B, 0, (B,))]
    lasso = fair_lasso(given, edges)
    check(lasso, given, edges)
    assert lasso.waiting == A


def test_a_graph_of_great_depth_is_no_problem():
    n = 20_000
    lasso = fair_lasso(nodes(n), ring(n))
    assert len(lasso.loop) == n
    assert fair_lasso(nodes(n), ring(n, progressed=(A,))) is None


def some_fair_subgraph(given, edges):
    """Try every set of edges: strongly connected, fair, and A owes and makes no progress."""
    usable = [e for e in edges if A not in e.progressed]
    usable = [e for e in usable if all(A in given[n].owing for n in (e.source, e.target))]
    for taken in product((False, True), repeat=len(usable)):
        chosen = [e for e, take in zip(usable, taken, strict=True) if take]
        if not chosen or not connected(chosen):
            continue
        enabled = {t for e in chosen for t in given[e.source].enabled}
        if enabled <= {e.thread for e in chosen}:
            return True
    return False


def connected(edges):
    """Whether from the target of each edge all sources are reached."""
    for edge in edges:
        reached, fresh = set(), {edge.target}
        while fresh:
            reached |= fresh
            fresh = {e.target for e in edges if e.source in reached} - reached
        if not {e.source for e in edges} <= reached:
            return False
    return True


def test_random_graphs_have_a_lasso_exactly_if_some_set_of_their_edges_is_one():
    rng = random.Random(1)
    found = 0
    for _ in range(400):
        n = rng.randint(1, 4)
        edges = list(
            {
                Edge(
                    rng.randrange(n),
                    rng.choice((A, B, C)),
                    rng.randrange(n),
                    (A,) if rng.random() < 0.2 else (),
                )
                for _ in range(rng.randint(1, 8))
            }
        )
        given = {}
        for number in range(n):
            out = {e.thread for e in edges if e.source == number}
            extra = {t for t in (A, B, C) if rng.random() < 0.1}
            given[number] = Node(sorted(out | extra), (A,) if rng.random() < 0.9 else ())
        lasso = fair_lasso(given, edges)
        assert (lasso is not None) == some_fair_subgraph(given, edges)
        if lasso is not None:
            check(lasso, given, edges)
            found += 1
    assert 40 < found < 360
