"""Toy stages of a few lines, and what builds plans of them, for tests of the engine."""

import json
import os
import signal
import time
from pathlib import Path

from scaling.kinds import Kind, register_kind
from scaling.stage import Stage


def write(config, inputs, out):
    """Write the config's text and those of the inputs; note the execution in the config's journal."""
    text = config["text"] + "".join(sorted((path / "text").read_text() for path in inputs.values()))
    note(config)
    time.sleep(config.get("seconds", 0))
    (out / "text").write_text(text)
    return {"length": len(text)}


def fail(config, inputs, out):
    """Raise."""
    note(config)
    (out / "half").write_text("half")
    raise ValueError("the toy is broken")


def die_once(config, inputs, out):
    """Kill this process the first time, succeed the second time; a checkpoint tells which it is."""
    checkpoint = out / "checkpoints"
    note(config)
    if not checkpoint.exists():
        checkpoint.mkdir()
        (out / "litter").write_text("left behind")
        os.kill(os.getpid(), signal.SIGKILL)
    return {"litter": int((out / "litter").exists())}


def die(config, inputs, out):
    """Kill this process."""
    note(config)
    os.kill(os.getpid(), signal.SIGKILL)


def tell(config, inputs, out):
    """Write the environment of the process and the cores it may run on."""
    told = {"environment": dict(os.environ), "cores": sorted(os.sched_getaffinity(0)), "pid": os.getpid()}
    (out / "told.json").write_text(json.dumps(told))
    return {}


RUNNERS = {
    "toy": "toy_stages:write",
    "broken": "toy_stages:fail",
    "mortal": "toy_stages:die_once",
    "doomed": "toy_stages:die",
    "sft": "toy_stages:tell",
    "rollouts": "toy_stages:tell",
    "problems": "toy_stages:tell",
}


for _name in ("toy", "broken", "mortal", "doomed"):
    register_kind(Kind(_name, 0, "host", RUNNERS[_name], work="scaling.pricing.work:nothing"))


def toy(text, *inputs, kind="toy", slug=None, **config):
    """A stage that writes text; its inputs are named by their position."""
    named = {f"input{index}": stage for index, stage in enumerate(inputs)}
    return Stage(kind, {"text": text, **config}, named, text if slug is None else slug)


def note(config):
    """Append a line to the journal."""
    if "journal" in config:
        with Path(config["journal"]).open("a") as file:
            file.write(config["text"] + "\n")


def journal(path):
    """The texts of the stages that ran, in order."""
    return path.read_text().split() if path.exists() else []
