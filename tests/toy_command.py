"""The command line of a sweep with toy stages on real Ray workers: `python toy_command.py FILE [OPTIONS]`.

Every kind of stage writes a line and takes TOY_SECONDS; no report is written.
"""

import os
import sys

import toy_stages

from scaling import sweep
from scaling.engine import run as engine_run
from scaling.engine.pool import RayPool
from scaling.kinds import kind_names

RUNNERS = dict.fromkeys(kind_names(), "toy_command:run")


def run(config, inputs, out):
    """Take time, and write what a stage with these inputs would."""
    toy_stages.note({"text": "stage", "journal": os.environ["TOY_JOURNAL"]})
    return toy_stages.write({"text": str(sorted(config)), "seconds": float(os.environ["TOY_SECONDS"])}, {}, out)


if __name__ == "__main__":
    engine_run.PAUSE_SECONDS = 0.5
    sweep._write_report = lambda *arguments: None
    sweep._pool = lambda sweep_, store, arguments: RayPool(
        store.root, None, sweep_.resources.amounts, arguments.address, runners=RUNNERS
    )
    sys.exit(sweep._command())
