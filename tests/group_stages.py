"""Stages for groups of workers: a tiny SFT over whatever mesh it finds, and members that fail or die."""

import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
from toy_stages import journal, note


def fit(config, inputs, out):
    """SFT of a tiny policy; the numbers say how many processes it ran in."""
    import jax
    from tiny_policy import CONFIG, random_params, random_rows

    from algorithms import sft
    from scaling.config.training import Sft
    from scaling.model.policy import Policy
    from scaling.training.batching import Sequences

    rows = random_rows(3)
    sequences = Sequences(rows["tokens"], rows["mask"], np.full(8, 16, np.int32))
    settings = Sft(learning_rate=0.01, epochs=2, batch_size=5)
    numbers = sft.fit(Policy(random_params(3), CONFIG), sequences, settings, 0, out)
    return {**numbers, "processes": jax.process_count(), "pid": os.getpid()}


def fit_slowly(config, inputs, out):
    """Notes the host of each process, computes together for half a minute, the second time for a second, and trains."""
    import jax
    from jax.experimental import multihost_utils

    note({"text": socket.gethostname(), "journal": config["text"]})
    is_first = len(journal(Path(config["text"]))) <= jax.process_count()
    for _ in range(100 if is_first else 3):
        ones = multihost_utils.process_allgather(np.ones(()))  # each process its own, whatever mesh is set
        assert ones.sum() == jax.process_count()
        time.sleep(0.3)
    return fit(config, inputs, out)


def fit_after_a_death(config, inputs, out):
    """The second process kills itself the first time, while the first one waits for it."""
    import jax

    marker = os.path.join(config["text"], "died")
    if jax.process_index() == 1 and not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return fit(config, inputs, out)


def fail_in_the_second(config, inputs, out):
    """The second process raises, while the first one waits for it."""
    import jax

    if jax.process_index() == 1:
        raise ValueError("the second is broken")
    return fit(config, inputs, out)


RUNNERS = {
    "sft": "group_stages:fit",
    "rft": "group_stages:fit_after_a_death",
    "dpo": "group_stages:fail_in_the_second",
    "problems": "group_stages:fit",
}
