"""An on-policy stage that dies in the middle: at a draw of samples or at an update."""

from itertools import accumulate
from types import SimpleNamespace

from scaling.training import checkpoint

BYTES = ("metrics.jsonl", "samples.parquet", "policy.safetensors")  # files that an interruption must not change


class Killed(BaseException):
    """What a kill looks like from inside."""


def looking_every(monkeypatch, seconds):
    """A clock that goes so many seconds between two looks; a checkpoint is due after 60."""
    clock = accumulate(iter(lambda: seconds, 0))
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: next(clock)))


def killing(monkeypatch, learner, at):
    """Make the stage of a learner's module die at an event: each draw of samples and each update is one."""
    events = iter(range(10**6))
    draw, batches_of = learner.draw, learner.batches_of

    def dies(function):
        def event(*arguments):
            if next(events) == at:
                raise Killed
            return function(*arguments)

        return event

    def late(batches):
        yield from dies(iter)(batches)  # when the update asks for its rows

    monkeypatch.setattr(learner, "draw", dies(draw))
    monkeypatch.setattr(learner, "batches_of", lambda *given: [late(batches) for batches in batches_of(*given)])
