"""One of two processes of test_members: `python tests/member_run.py ADDRESS INDEX SIZE FOLDER [KILL_AT]`.

In FOLDER: `pairs`. Out: `INDEX.json` with losses, `reference/INDEX` and `dpo/INDEX` with what SFT and DPO wrote. With
KILL_AT the process ends itself when SFT asks for that update, after a checkpoint of the update before. With PLACE in
the environment, a folder of a bucket, both have folders of their own, and checkpoints are copied there.
"""

import json
import os
import sys
from pathlib import Path

import jax
import numpy as np
from etils import epath
from stage_config import whole

from algorithms import dpo, sft
from scaling.config.training import Sft
from scaling.copies import Copies, copying_to
from scaling.engine.worker import join
from scaling.model.policy import Policy
from scaling.model.sampling import row_keys, sample
from scaling.model.sharding import on_mesh, placed_rows
from scaling.training import checkpoint, loop
from scaling.training.batching import Sequences


def main(address: str, index: int, size: int, folder: Path, kill_at: int | None) -> None:
    """SFT, DPO and sampling over a mesh of both processes, or in one."""
    if size > 1:
        join(address, index, size)
    from tiny_policy import CONFIG, random_params, random_rows  # computes when it is imported

    place = epath.Path(os.environ["PLACE"]) if "PLACE" in os.environ else None
    send = Copies.send
    Copies.send = lambda self, *what: (send(self, *what), self.wait())  # before the kill
    loop.Checkpoints = lambda out, _, files: checkpoint.Checkpoints(out, 0.0, files)  # at every chance
    if kill_at is not None:
        _kill(kill_at)
    with on_mesh({"data": 1, "fsdp": size, "tensor": 1}):
        out = {name: folder / name / str(index) for name in ("reference", "dpo")}
        for path in out.values():
            path.mkdir(parents=True, exist_ok=True)
            if index and place is None and not (path / "checkpoints").is_symlink():
                (path / "checkpoints").symlink_to(path.parent / "0" / "checkpoints")
        rows = random_rows(3)
        start = Policy(random_params(3), CONFIG)
        sequences = Sequences(rows["tokens"], rows["mask"], np.full(8, 16, np.int32))
        settings = Sft(learning_rate=0.01, epochs=4, batch_size=5)
        with copying_to(place and place / "reference"):
            facts = {"sft": sft.fit(start, sequences, settings, 0, out["reference"])}
        config = whole({"dpo": {"learning_rate": 0.01, "epochs": 2, "batch_size": 2, "beta": 0.5}, "seed": 0})
        inputs = {"reference": folder / "reference" / str(index), "pairs": folder / "pairs"}
        with copying_to(place and place / "dpo"):
            facts["dpo"] = dpo.run(config, inputs, out["dpo"])
        prompts = [[1, 5, 9], [1, 7, 7, 3]]
        keys = row_keys(jax.random.key(0), np.arange(2, dtype=np.uint32)[:, None])
        facts["tokens"] = sample(random_params(2), CONFIG, prompts, keys, [12] * 2, temperature=1.0).tokens.tolist()
        if size > 1:
            share = placed_rows({"rows": np.arange(8)})["rows"].addressable_shards
            facts["share"] = [row for shard in share for row in np.asarray(shard.data).tolist()]
    (folder / f"{index}.json").write_text(json.dumps(facts))


def _kill(at: int) -> None:
    """End the process, as a lost machine would, before an update."""
    real = loop.settings_at

    def settings_at(*arguments):
        if arguments[-1] == at:
            os._exit(9)
        return real(*arguments)

    loop.settings_at = settings_at


if __name__ == "__main__":
    address, index, size, folder, *rest = sys.argv[1:]
    main(address, int(index), int(size), Path(folder), int(rest[0]) if rest else None)
