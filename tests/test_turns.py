"""Whose turn it is, of those that wait in line for slots."""

import math

from hypothesis import given
from hypothesis import strategies as st

from jupyter_flows.turns import whose_turn

LIMITS = "abc"
wants = st.dictionaries(st.sampled_from(LIMITS), st.integers(1, 3), min_size=1)
free = st.fixed_dictionaries(
    {limit: st.one_of(st.integers(-2, 5), st.just(math.inf)) for limit in LIMITS}
)


@given(line=st.lists(wants, max_size=8), free=free)
def test_nobody_gets_what_is_not_there(line, free):
    """What is given is never more than was free, and who gets something gets all it wants."""
    given = list(whose_turn(enumerate(line), free))
    assert given == sorted(set(given))
    for limit in LIMITS:
        assert sum(line[who].get(limit, 0) for who in given) <= max(free[limit], 0)


@given(line=st.lists(wants, max_size=8), free=free)
def test_nobody_is_overtaken_at_what_it_lacks(line, free):
    """Who has to wait lacks something that those before it took or wait for; nothing that it
    lacks goes to one behind it."""
    given = set(whose_turn(enumerate(line), free))
    for who, wanted in enumerate(line):
        if who in given:
            continue
        before = {
            limit: sum(line[other].get(limit, 0) for other in range(who) if other in given)
            for limit in wanted
        }
        lacks = {limit for limit in wanted if free[limit] - before[limit] < wanted[limit]}
        waited_for = {limit for other in range(who) if other not in given for limit in line[other]}
        assert lacks or wanted.keys() & waited_for
        for behind in range(who + 1, len(line)):
            assert behind not in given or not lacks & line[behind].keys()
