"""Completions: which of them the limit has cut, and that no two uses of a seed share a key."""

import jax

from data.sampling.completions import EVALUATION, ROLLOUTS, SOLVABLE, STEP_VALUES, root_key, truncated_fraction


def test_a_completion_is_truncated_when_it_ends_in_no_stop_token():
    assert truncated_fraction([[3, 2], [3, 4], [2], []], (2, 9)) == 0.5
    assert truncated_fraction([[3, 9]], (2, 9)) == 0.0


def test_the_uses_of_a_seed_have_different_keys():
    keys = {jax.random.key_data(root_key(seed, use)).tobytes() for seed in (0, 1) for use in (1, 2, 3, 4)}
    assert len(keys) == 8 and {ROLLOUTS, STEP_VALUES, EVALUATION, SOLVABLE} == {1, 2, 3, 4}
