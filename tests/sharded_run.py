"""What test_sharding compares: a program on eight fake CPU devices, `python tests/sharded_run.py FOLDER MESH`.

MESH is the sizes of data, fsdp and tensor, such as 1x4x2; 1x1x1 is one device. Out: FOLDER/MESH.json with losses,
gradients and tokens, and the policies of a tiny SFT and DPO in FOLDER/MESH/.
"""

import json
import re
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import default_backend
from jax._src.cudnn import fused_attention_stablehlo
from stage_config import whole
from tiny_policy import CONFIG, nll, random_params, random_rows

from algorithms import dpo, sft
from scaling.config.training import Sft
from scaling.model import sampling
from scaling.model.layout import AXES
from scaling.model.policy import Policy, flat, save_policy
from scaling.model.sampling import row_keys, sample
from scaling.model.sharding import on_mesh, param_spec, placed_params, placed_rows, row_multiple
from scaling.model.transformer import architecture
from scaling.training.batching import Sequences, cutter
from scaling.training.update import OptimizerSettings, init_state, make_accumulate, make_update

LARGE = replace(CONFIG, vocab_size=4104)  # a checkpoint's: its sequences share rows
SETTINGS = OptimizerSettings(np.float32(0.01), np.float32(0.1), np.float32(1.0))
PAIRS = [([1, 4, 5], [6, 7, 8, 9, 2], [6, 7, 2]), ([1, 9], [3, 2], [5, 5, 5, 5, 5, 2]), ([1], [8, 2], [9, 2])]
PROMPTS = [[1, 5, 9], [1, 7, 7, 3], [1, 20], [1, 11, 12, 13, 14], [1, 30, 4], [1, 2, 3, 4, 5, 6, 7, 8, 9]]


def main(folder: Path, name: str) -> None:
    """Everything on one mesh."""
    axes = dict(zip(AXES, map(int, name.split("x")), strict=True))
    sampling.CHUNK_SIZES = (16, 32)  # less filler than in earnest
    with on_mesh(axes):
        out = folder / name
        out.mkdir()
        facts = {**gradients(), **packed(), **attention(), **updates(axes), **tokens(), **stages(out)}
    (folder / f"{name}.json").write_text(json.dumps(facts))


def gradients() -> dict[str, object]:
    """The loss of one batch and its gradient, and the work that one device does for it."""
    params, batch = placed_params(random_params(0), CONFIG), placed_rows(random_rows(0))
    apply = architecture(CONFIG).apply
    compiled = jax.jit(jax.value_and_grad(lambda params: nll(apply, params, batch)["loss"].total)).lower(params)
    loss, gradient = (executable := compiled.compile())(params)
    flattened = {key: np.asarray(leaf).ravel().tolist() for key, leaf in flat(gradient).items()}
    return {"loss": float(loss), "gradient": flattened, "flops": executable.cost_analysis()["flops"]}


def attention() -> dict[str, object]:
    """The loss and gradient by jax's own attention, with and without a mask, and the shapes that cuDNN's gets."""
    config = replace(CONFIG, num_heads=8, head_width=8, sliding_window=5, attention="xla")
    params, batch = random_params(0, jax.eval_shape(architecture(config).init, jax.random.key(0))), random_rows(0)
    batch = placed_rows(batch)
    starts = np.broadcast_to(np.where(np.arange(16) < 7, 0, 7), (8, 16)).astype(np.int32)  # two sequences a row
    found: dict[str, object] = {}
    for name, begins in (("xla", {}), ("xla_shared", {"starts": placed_rows(starts)})):

        def loss(params, begins=begins):
            predict = partial(architecture(config).predict, **begins)
            return nll(predict, params, batch)["loss"].total

        total, gradient = jax.jit(jax.value_and_grad(loss))(placed_params(params, config))
        flattened = {key: np.asarray(leaf).ravel().tolist() for key, leaf in flat(gradient).items()}
        found |= {f"{name}_loss": float(total), f"{name}_gradient": flattened}
    jax.default_backend = lambda: "gpu"  # lowered for one, and not run
    fused_attention_stablehlo.check_cudnn_version = lambda: 91_002
    half = replace(config, attention="cudnn", bfloat16=True)
    forward = jax.jit(architecture(half).apply).trace(placed_params(params, half), batch["tokens"])
    jax.default_backend = default_backend
    text = forward.lower(lowering_platforms=("cuda",)).as_text()
    return found | {"cudnn": sorted(set(re.findall(r"@__cudnn\$fmhaSoftmax.*?: \(tensor<(\w+)xbf16>", text)))}


def packed() -> dict[str, object]:
    """The loss and gradient of ragged sequences that share rows: how many of them depends on the mesh."""
    lengths = np.array([5, 30, 12, 9, 21, 7, 16, 14, 26, 3, 11])
    tokens = np.random.default_rng(7).integers(3, LARGE.vocab_size, (len(lengths), 32)).astype(np.int32)
    mask = (np.arange(32) < lengths[:, None]) & (np.arange(32) >= 2)
    arrays, rows = {"tokens": tokens, "mask": mask.astype(np.float32)}, np.arange(len(lengths))
    params = placed_params(random_params(5, jax.eval_shape(architecture(LARGE).init, jax.random.key(0))), LARGE)
    gradients, loss, shapes = jax.tree.map(jnp.zeros_like, params), 0.0, []
    accumulate = make_accumulate(LARGE, nll, None, False)
    for _, batch in cutter(arrays, [rows], lengths, len(lengths), LARGE)(rows):
        shapes.append(batch["packed"]["tokens"].shape)
        gradients, sums = accumulate(gradients, params, {}, placed_rows(batch), {})
        loss += float(sums["loss"].total)
    flattened = {key: np.asarray(leaf).ravel().tolist() for key, leaf in flat(gradients).items()}
    return {"packed_loss": loss, "packed_gradient": flattened, "packed_shapes": shapes}


def updates(axes: dict[str, int]) -> dict[str, object]:
    """Losses of three updates, and the arrays of the state that do not lie where the table puts them."""
    batch = random_rows(1)
    state, losses = init_state(placed_params(random_params(1), CONFIG)), []
    update = make_update(CONFIG, nll)
    for _ in range(3):
        state, sums = update(state, [placed_rows(batch)], {}, SETTINGS)
        losses.append(float(sums["loss"].total))
    misplaced = []
    for tree in (state.params, state.optimizer_state.mu, state.optimizer_state.nu) if row_multiple() > 1 else ():
        for key, leaf in flat(tree).items():
            expected = jax.sharding.NamedSharding(jax.sharding.get_mesh(), param_spec(key, CONFIG, axes))
            if not leaf.sharding.is_equivalent_to(expected, leaf.ndim):
                misplaced.append(f"{key}: {leaf.sharding.spec}, not {expected.spec}")
    return {"losses": losses, "misplaced": misplaced}


def tokens() -> dict[str, object]:
    """Greedy completions, and completions drawn at temperature 1."""
    keys = row_keys(jax.random.key(0), np.arange(len(PROMPTS), dtype=np.uint32)[:, None])
    greedy = sample(random_params(2), CONFIG, PROMPTS, keys, [12] * len(PROMPTS), temperature=0.0)
    drawn = sample(random_params(2), CONFIG, PROMPTS, keys, [12] * len(PROMPTS), temperature=1.0)
    return {"greedy": greedy.tokens.tolist(), "drawn": drawn.tokens.tolist(), "logps": drawn.logps.tolist()}


def stages(out: Path) -> dict[str, object]:
    """SFT of a tiny policy for two epochs, and DPO of the result, through what the stages call."""
    for name in ("reference", "pairs", "dpo"):
        (out / name).mkdir()
    rows = random_rows(3)
    sequences = Sequences(rows["tokens"], rows["mask"], np.full(8, 16, np.int32))
    start = Policy(jax.tree.map(jnp.asarray, random_params(3)), CONFIG)
    settings = Sft(learning_rate=0.01, epochs=2, batch_size=5)
    fitted = sft.fit(start, sequences, settings, 0, out / "reference")
    pd.DataFrame(PAIRS, columns=["context", "chosen", "rejected"]).to_parquet(out / "pairs" / "pairs.parquet")
    config = whole({"dpo": {"learning_rate": 0.01, "epochs": 2, "batch_size": 2, "beta": 0.5}, "seed": 0})
    preferred = dpo.run(config, {"reference": out / "reference", "pairs": out / "pairs"}, out / "dpo")
    save_policy(Policy(placed_params(random_params(4), CONFIG), CONFIG), out)
    return {"sft": fitted, "dpo": preferred}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
