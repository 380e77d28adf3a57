"""Where stages run: the section `resources` of a sweep file. It does not enter a stage's identity.

In: plain mappings. Out: the frozen settings by which the engine places workers and a plan predicts memory and
time. Only `train` and `rollouts` have a policy, so only they have a mesh and several hosts.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from scaling.config.section import Count, Fraction, Positive, Section, Text

CLASSES = ("train", "rollouts", "host")  # of stages
UtilisedFraction = Annotated[Fraction, Field(gt=0.0)]


class Mesh(Section):
    """Sizes of the mesh's axes, see scaling.model.sharding; their product is the number of devices of a stage."""

    data: Count = 1  # repeats the params, divides rows
    fsdp: Count = 1  # divides rows and params
    tensor: Count = 1  # divides heads, feed-forward width and vocabulary

    @property
    def num_devices(self) -> int:
        return self.data * self.fsdp * self.tensor


class Meshes(Section):
    """One mesh for each class of stages that has a policy."""

    train: Mesh = Mesh()
    rollouts: Mesh = Mesh()


class Hosts(Section):
    """How many workers run one stage together, each with the amounts of its class."""

    train: Count = 1
    rollouts: Count = 1


class Timeouts(Section):
    """Minutes after which a running stage of a class is ended and counts as failed; null: never."""

    train: Positive | None = None
    rollouts: Positive | None = None
    host: Positive | None = None


class Hardware(Section):
    """Hardware for which a plan states times and memory."""

    name: Text
    num_devices: Count  # in total; stages on fewer devices run side by side
    flops_per_second_per_device: Positive  # the peak of matrix products in the type they are computed in
    memory_gib_per_device: Positive
    bytes_per_second_per_device: Positive | None = None  # of its memory; null: what bounds a call is not stated
    mesh: Meshes | None = None  # null: resources.mesh
    topology: Text | None = None  # a TPU slice by its compiler's name, such as v5e:4x4
    training_utilisation: UtilisedFraction = 0.35  # assumed fraction of the peak
    generation_utilisation: UtilisedFraction = 0.05  # decoding waits for memory, not for arithmetic


class Resources(Section):
    """The amounts that one worker of each class requests from Ray: cpu, gpu, or a custom resource such as tpu."""

    train: Mapping[str, Positive] = {"cpu": 1.0}
    rollouts: Mapping[str, Positive] = {"cpu": 1.0}
    host: Mapping[str, Positive] = {"cpu": 1.0}
    mesh: Meshes = Meshes()
    hosts: Hosts = Hosts()
    timeout_minutes: Timeouts = Timeouts()
    hardware: Annotated[tuple[Hardware, ...], Field(strict=False)] = ()

    @property
    def amounts(self) -> dict[str, dict[str, float]]:
        """Class of stages -> amounts of one worker."""
        return {name: dict(getattr(self, name)) for name in CLASSES}

    @property
    def meshes(self) -> dict[str, dict[str, int]]:
        """Class of stages -> sizes of its mesh's axes, if it has a mesh."""
        return self.mesh.model_dump()

    def meshes_on(self, hardware: Hardware | None) -> dict[str, dict[str, int]]:
        """The same on hardware that may have meshes of its own."""
        return self.meshes if hardware is None or hardware.mesh is None else hardware.mesh.model_dump()

    @property
    def timeouts(self) -> dict[str, float]:
        """Class of stages -> seconds that one may run, if limited."""
        return {name: 60.0 * minutes for name, minutes in self.timeout_minutes.model_dump(exclude_none=True).items()}

    @model_validator(mode="after")
    def _satisfiable(self) -> "Resources":
        for section, amounts in self.amounts.items():
            if not amounts:
                raise ValueError(f"{section} requests nothing; give it an amount, such as {{cpu: 1}}.")
            for name, amount in amounts.items():
                if (known := name.lower().removesuffix("s")) in ("cpu", "gpu", "tpu") and name != known:
                    raise ValueError(f"{section}.{name}: Ray has no such resource; did you mean {known}?")
                if name in ("gpu", "tpu") and amount > 1 and amount != int(amount):
                    raise ValueError(f"{section}.{name} is {amount}; use a fraction below 1 or a whole number.")
        return self

    @model_validator(mode="after")
    def _hardware_has_the_devices_of_its_mesh(self) -> "Resources":
        for number, hardware in enumerate(self.hardware):
            for name in ("train", "rollouts"):
                mesh, where = (hardware.mesh, f"hardware[{number}].") if hardware.mesh else (self.mesh, "")
                if (wanted := getattr(mesh, name).num_devices) > hardware.num_devices:
                    raise ValueError(
                        f"{where}mesh.{name} is of {wanted} devices, but {hardware.name} has"
                        f" {hardware.num_devices}; lower the mesh's product."
                    )
        return self

    @model_validator(mode="after")
    def _meshes_fit(self) -> "Resources":
        for name in ("train", "rollouts"):
            mesh, hosts = getattr(self.mesh, name), getattr(self.hosts, name)
            sizes = f"data {mesh.data} x fsdp {mesh.fsdp} x tensor {mesh.tensor} = {mesh.num_devices} devices"
            if hosts > 1 and mesh.num_devices % hosts:
                raise ValueError(
                    f"mesh.{name} is {sizes}, but hosts.{name} is {hosts}; every host has the same number of devices:"
                    f" make the product a multiple of {hosts}."
                )
            gpus = getattr(self, name).get("gpu", 0)
            if gpus >= 1 and (hosts > 1 or mesh.num_devices > 1) and mesh.num_devices != hosts * gpus:
                raise ValueError(
                    f"mesh.{name} is {sizes}, but {hosts} workers of {gpus:g} GPUs have {hosts * gpus:g}; make"
                    f" {name}.gpu times hosts.{name} the mesh's product."
                )
        return self
