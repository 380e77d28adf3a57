"""The calls of a policy that XLA compiles for a stage: what decides their code, and the memory that they need.

In: a stage, and the share of one device of a mesh. Out: `Program`s, by the functions that the kinds' records name in
`memory`. `--plan` predicts their memory here, by arithmetic; `scaling.compile` asks XLA's compiler. Lengths are the
longest that the family allows, as in scaling.pricing.costs. Where sequences share rows (scaling.model.packing), that is
the largest call that there can be, within some percent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from scaling.config.policy import Lora, lora_of
from scaling.kinds import kind_of
from scaling.model.layout import AXES
from scaling.model.memory_need import (
    BUCKET,
    PREFILL_PROMPTS,
    SAMPLER_ROWS,
    SCORING_ROWS,
    padded,
    rows_on_device,
    sampling_memory,
    scoring_memory,
    training_memory,
)
from scaling.model.packing import is_packed, largest_call, rounded
from scaling.model.sizes import EINSUM, ModelConfig
from scaling.pricing.lengths import longest, setting
from scaling.stage import Stage

Work = Literal["training", "training on pairs", "sampling", "scoring"]


@dataclass(frozen=True)
class Device:
    """The share of one device of a mesh."""

    axes: Mapping[str, int]  # sizes of the mesh's axes
    tokens_limit: int  # of one micro-batch
    remat: bool
    packs: bool = True  # sequences of a checkpoint's policy share rows
    attention: str = EINSUM

    @property
    def mesh(self) -> tuple[int, ...]:
        """Sizes of AXES."""
        return tuple(self.axes[name] for name in AXES)

    @property
    def ways(self) -> int:
        """Number of devices that rows are divided over."""
        return self.axes["data"] * self.axes["fsdp"]


@dataclass(frozen=True)
class Program:
    """One compiled call on a mesh. Rows and prompts are those of all devices together."""

    work: Work
    shape: ModelConfig
    mesh: tuple[int, ...]  # sizes of AXES
    rows: int  # sequences, of which a pair has two; or the rows that sequences share
    length: int  # tokens of each, padding included; of its prompt where it is sampled
    prompts: int = 0  # different ones, which are prefilled
    new_tokens: int = 0  # slots of a completion that is sampled
    batch: int = 0  # sequences of a whole update
    longest_sequence: int = 0  # tokens of the longest sequence where several share a row
    lora: Lora | None = None
    remat: bool = False
    whole_logits: bool = False  # the update's loss reads them, not log-probabilities alone
    while_training: bool = False  # sampled with the optimizer's state in memory
    oracle: ModelConfig | None = None  # another policy in memory

    @property
    def axes(self) -> dict[str, int]:
        return dict(zip(AXES, self.mesh, strict=True))

    @property
    def ways(self) -> int:
        """Number of devices that rows are divided over."""
        return self.axes["data"] * self.axes["fsdp"]

    @property
    def sequences(self) -> int:
        """Of a row of the batch."""
        return 2 if self.work == "training on pairs" else 1

    @property
    def memory(self) -> dict[str, float]:
        """Bytes by purpose on one device, those that are in memory beside the call included."""
        if self.oracle is not None:
            params = training_memory(self.oracle, self.axes, rows=1, length=1)["start policy"]
            return replace(self, oracle=None).memory | {"oracle": params}
        rows = -(-self.rows // self.ways)
        if self.work == "scoring":
            return scoring_memory(self.shape, self.axes, rows, self.length)
        updating = training_memory(self.shape, self.axes, rows, self.length, self.lora, self.remat, self.whole_logits)
        if self.work != "sampling":
            return updating
        prompts = -(-self.prompts // self.ways)
        needed = sampling_memory(self.shape, self.axes, rows, prompts, self.length, self.new_tokens)
        return needed | ({part: updating[part] for part in BESIDE} if self.while_training else {})


BESIDE = ("start policy", "AdamW moments")  # in memory beside an update's gradients, but no argument of that call


def training(stage: Stage, device: Device) -> tuple[Program, ...]:
    """Updates in the batches of the section that is named after the stage's kind."""
    return (_packed(_update("training", stage, device, stage.config[stage.kind]["batch_size"]), stage, device),)


def training_on_pairs(stage: Stage, device: Device) -> tuple[Program, ...]:
    """The same where a row is two sequences, which the reference policy reads once."""
    update, *others = training_with_twins(stage, device)
    return (_packed(update, stage, device), *others)


def training_with_twins(stage: Stage, device: Device) -> tuple[Program, ...]:
    """The same where the loss reads one sequence of each two at a time, so that they never share a row."""
    update = _update("training on pairs", stage, device, stage.config[stage.kind]["batch_size"])
    return (update, *scoring(stage, device))


def on_policy(stage: Stage, device: Device) -> tuple[Program, ...]:
    """A chunk is sampled, then the policy is updated on it, by a loss that reads the entropy of every token."""
    settings = stage.config[stage.kind]
    batch = settings["problems_per_update"] * settings["samples_per_problem"]
    (chunk,) = sampling(stage, device)
    update = replace(_update("training", stage, device, batch), whole_logits=True)
    return update, replace(chunk, lora=lora_of(stage.config), while_training=True)


def distilling(stage: Stage, device: Device) -> tuple[Program, ...]:
    """The same with an oracle's params in memory."""
    oracle = setting(stage.inputs["oracle"])[1]
    return tuple(replace(program, oracle=oracle) for program in on_policy(stage, device))


def pretraining(stage: Stage, device: Device) -> tuple[Program, ...]:
    """Updates of an oracle, in the batches of the base policy's pretraining."""
    return (_update("training", stage, device, stage.config["pretrain"]["batch_size"]),)


def sampling(stage: Stage, device: Device) -> tuple[Program, ...]:
    """A full chunk of completions."""
    shape, prompt, completion = longest(stage)
    samples = kind_of(stage.kind).samples
    if samples is not None and samples.from_prefixes:  # prefixes end anywhere, on average half-way
        prompt, completion = prompt + completion // 2, completion - completion // 2
    prompts = _prompts_in_a_chunk(stage)
    return (Program("sampling", shape, device.mesh, SAMPLER_ROWS, padded(prompt), prompts, padded(completion)),)


def scoring(stage: Stage, device: Device) -> tuple[Program, ...]:
    """A forward pass over whole sequences; nothing is sampled."""
    shape, prompt, completion = longest(stage)
    length = padded(prompt + completion)
    rows = device.ways * rows_on_device(length, -(-SCORING_ROWS // device.ways), device.tokens_limit)
    padded_rows = Program("scoring", shape, device.mesh, rows, length, batch=SCORING_ROWS)
    return (_packed(padded_rows, stage, device),)


def with_narrower(program: Program, tokens_limit: int) -> tuple[Program, ...]:
    """The call and those for shorter sequences with more rows: of each number of rows the one with the longest.

    Only the call itself where sequences share rows.
    """
    if not program.batch or program.longest_sequence:
        return (program,)
    widest: dict[int, Program] = {}
    for length in range(program.length, 0, -BUCKET):
        rows = _rows(program.batch, program.sequences, length, program.ways, tokens_limit)
        widest.setdefault(rows, replace(program, rows=rows, length=length))
    return tuple(widest.values())


def _update(work: Work, stage: Stage, device: Device, batch_size: int) -> Program:
    """A micro-batch of an update in batches of so many rows."""
    shape, prompt, completion = longest(stage)
    length, lora = padded(prompt + completion), lora_of(stage.config)
    program = Program(work, shape, device.mesh, 0, length, lora=lora, remat=device.remat)
    batch = batch_size * program.sequences
    rows = _rows(batch, program.sequences, program.length, device.ways, device.tokens_limit)
    return replace(program, rows=rows, batch=batch)


def _packed(program: Program, stage: Stage, device: Device) -> Program:
    """The largest call with packed rows, if the policy's are."""
    if not (device.packs and is_packed(program.shape)):
        return program
    _, prompt, completion = longest(stage)
    members, length = program.batch // program.sequences, prompt + completion
    rows, width = largest_call(members, program.sequences, length, device.ways, device.tokens_limit)
    return replace(program, rows=device.ways * rows, length=width, longest_sequence=rounded(length))


def _rows(batch: int, sequences: int, length: int, ways: int, tokens_limit: int) -> int:
    """Sequences of a micro-batch on all devices."""
    return ways * sequences * rows_on_device(sequences * length, -(-batch // (sequences * ways)), tokens_limit)


def _prompts_in_a_chunk(stage: Stage) -> int:
    """How many prompts the sampler prefills at once: adjacent completions of one prompt share it."""
    samples = kind_of(stage.kind).samples
    if samples is None or samples.per_prompt is None:  # one greedy completion of each prompt, or prefixes that differ
        return SAMPLER_ROWS
    section = stage.config if samples.section is None else stage.config[samples.section]
    # One more, since a chunk may begin between completions of one prompt.
    different = -(-SAMPLER_ROWS // section[samples.per_prompt]) + 1
    return min(SAMPLER_ROWS, next(size for size in PREFILL_PROMPTS if size >= different))
