"""The settings of a training run, as a dataclass and as YAML.

Every value except the data set has a default. Every value is written into the run's
folder. An unknown name is refused, and the error names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

import jaxswap
from jaxswap.extend import parse_bytes, parse_slabs
from jaxswap.medical.data.brain import MASKS
from jaxswap.medical.data.grid import Shape
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.data.named_labels import make_named_map
from jaxswap.medical.networks.objective import LOSSES
from jaxswap.medical.preparing.augment_config import AugmentConfig
from jaxswap.medical.preparing.mesh_shape import MeshShape, parse_mesh
from jaxswap.medical.preparing.normalization import check_schemes
from jaxswap.medical.runs.config_yaml import parse_setting as parse_setting
from jaxswap.medical.runs.config_yaml import read_config as read_config
from jaxswap.medical.runs.setting_values import (
    check_names,
    check_type,
    read_augmentation,
    read_names,
    read_three,
    to_plain,
)

_POSITIVE = "steps batch accumulate validate_every checkpoint_every folds".split()
_NOT_NEGATIVE = "weight_decay seed workers warmup_steps gradient_clip patience".split()
_MOST_WORKERS = 1024
_CHOICES = {
    "loss": LOSSES,
    "optimizer": ("adam", "sgd"),
    "schedule": ("constant", "cosine", "polynomial"),
    "precision": ("bfloat16", "float32"),
    "mask": MASKS,
}


@dataclass(frozen=True)
class RunConfig:
    """A training run.

    Attributes:
        data: Folder of the data set, or a datalist.
        layout: Its layout. None tries each.
        edition: What its labels mean: "brats2021", "brats2023", ... None reads it from
            the data set.
        labels: Names of the labels, each with its value in files or several, such as
            `{left: 17, right: [53, 1053]}`. Values may be above 255. Replaces what the
            data set says. None for that.
        fold: Which fold validates, from 0. "all" trains on all cases and validates
            none. Then the newest checkpoint counts as the best.
        folds: Number of folds.
        patient: Regular expression whose first group is the patient in a case's name,
            such as "(.+)_[0-9]+": visits of a patient stay in one fold. None knows
            names of BraTS and BIDS, and words such as pre, post and visit2.
        exclude: Names of cases that are left out.
        init_from: Folder of a run whose parameters are those at the start. Those whose
            shape differs are drawn anew, and listed.
        network: "isensee2017", "residual", or `package.module:Class` of a Flax module.
        network_options: Arguments of the network, such as `base_filters`.
        shape: Voxels of a whole volume in the network. None takes the smallest shape
            that is large enough for every brain of the data set.
        spacing_mm: Voxel size to resample to. None leaves voxels as they are.
        mask: Which voxels count. "foreground": those that are not background, or the
            whole image where no value marks the background. "brain": there, the largest
            bright region. "none": the whole image.
        normalization: How channels are brought to scale: "zscore", "ct" or "none", or
            one of these by the channel's name. None chooses by name, as nnU-Net: CT is
            "ct", others "zscore".
        patch: Voxels along each side of a patch. None trains on whole volumes. If these
            do not fit into `device_memory` whatever is swapped, and `shape` is not
            given, None takes the largest patch that fits.
        foreground_share: Share of patches that must contain a label.
        foreground_weights: How often such a patch is placed on a label, by its name,
            beside the other labels of the case. 1 for labels that are left out.
        batch: Volumes or patches in each step. None takes 1, or with `device_memory` as
            many as fit, and at most as many as nnU-Net would take.
        accumulate: Steps whose gradients are summed for one update.
        steps: Training steps. A larger number on `--resume` trains longer. The learning
            rate is then that of the longer schedule.
        patience: Validations in a row that are no better than the best one, after which
            training ends. 0 for never.
        loss: "dice", "dice_ce" or "dice_focal".
        class_weights: Weight of each region in the loss by its name, and of background
            where no regions overlap. 1 for those that are left out.
        deep_supervision: Whether each level of the decoder is scored.
        optimizer: "adam" or "sgd" (Nesterov momentum 0.99).
        learning_rate: Rate at the start, or after the warm-up.
        warmup_steps: Steps in which the rate rises to `learning_rate`.
        gradient_clip: Largest norm of the gradient of all parameters. A longer gradient
            is scaled to it. 0 for no limit. nnU-Net takes 12.
        weight_decay: Decoupled weight decay.
        schedule: How the rate falls: "constant", "cosine" or "polynomial" (power 0.9).
        average_decay: Decay of the moving average of the parameters. 0 for no average.
        precision: Number type of the features. Parameters are float32.
        augment: Random changes of the training cases. None for no changes.
        offload: Whether the loss is wrapped in `jaxswap.offload`.
        device_memory: Bytes of the GPU that the step may use, such as "16GiB". None
            uses what is free on it, see `jaxswap.offload`.
        host_memory: Pinned host memory that may be used. None for all there is.
        slabs: Whether the finest values are computed slab by slab within
            `device_memory`: "auto" where whole volumes do not fit otherwise, "none", or
            levels and slabs, such as "2x16". See `jaxswap.Slabs`.
        compress: Type to which features are rounded when they leave the device:
            "bfloat16", "float8_e4m3fn" or "int8". Copies and host memory are then
            smaller, and gradients change a little. Features of that precision leave as
            they are. None rounds nothing.
        target: GPU to plan for, such as "h100", see `jaxswap targets`. None is JAX's
            default device.
        host_optimizer: Whether the optimizer's state is in host memory.
        mesh: Devices that split the batch (data) and the x (depth) and y (height) axes
            of volumes, such as "data=2,depth=4". None: a single process uses one
            device, several processes split the batch over all of their devices.
        workers: Processes that read batches ahead. 0 for threads.
        validate_every: Steps between validations.
        validation_pictures: Whether each validation draws its first case, for
            TensorBoard.
        keep_best: Whether the checkpoint of the best validation is kept, beside the
            latest.
        final_validation: Whether validation cases are labeled and scored when training
            has ended, as by `predict` and `evaluate`, into the folder `validation` of
            the run. Not for a mesh or several processes.
        checkpoint_every: Steps between checkpoints.
        seed: Seed of parameters, order of cases, patches, augmentation and dropout.

    Raises:
        ValueError: If a value does not fit. The message names it and what would fit.
    """

    data: Path
    layout: str | None = None
    edition: str | None = None
    labels: Mapping[str, Any] | None = None
    fold: int | Literal["all"] = 0
    folds: int = 5
    patient: str | None = None
    exclude: tuple[str, ...] = ()
    init_from: Path | None = None
    network: str = "isensee2017"
    network_options: Mapping[str, Any] = field(default_factory=dict)
    shape: Shape | None = None
    spacing_mm: tuple[float, float, float] | None = None
    mask: str = "foreground"
    normalization: str | Mapping[str, str] | None = None
    patch: int | None = None
    foreground_share: float = 0.33
    foreground_weights: Mapping[str, Any] = field(default_factory=dict)
    batch: int | None = None
    accumulate: int = 1
    steps: int = 10_000
    patience: int = 0
    loss: str = "dice_ce"
    class_weights: Mapping[str, Any] = field(default_factory=dict)
    deep_supervision: bool = False
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    warmup_steps: int = 0
    gradient_clip: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "cosine"
    average_decay: float = 0.0
    precision: str = "bfloat16"
    augment: AugmentConfig | None = field(default_factory=AugmentConfig)
    offload: bool = True
    device_memory: str | None = None
    host_memory: str | None = None
    slabs: str = "auto"
    compress: str | None = None
    target: str | None = None
    host_optimizer: bool = False
    mesh: str | None = None
    workers: int = 0
    validate_every: int = 250
    validation_pictures: bool = True
    keep_best: bool = True
    final_validation: bool = True
    checkpoint_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` is {value}, not 1 or more.")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}, not 0 or more.")
        if self.fold != "all" and not (isinstance(self.fold, int) and self.fold >= 0):
            raise ValueError(f"`fold` is {self.fold!r}; give 0, 1, ... or all.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)!r}; choose one of "
                    f"{', '.join(choices)}."
                )
        self._check_numbers()
        if self.mesh_shape is not None and not self.is_batch_chosen:
            self.mesh_shape.check_batch(self.batch_size)

    @property
    def batch_size(self) -> int:
        """Volumes or patches in each step, once `batch` is chosen."""
        return 1 if self.batch is None else self.batch

    @property
    def is_batch_chosen(self) -> bool:
        """Whether `batch` is left to be chosen for the device's memory."""
        return self.batch is None and self.device_memory is not None

    @property
    def meaning(self) -> str | LabelMap | None:
        """What the labels mean, for `find_dataset`."""
        return self.edition if self.labels is None else make_named_map(self.labels)

    @property
    def mesh_shape(self) -> MeshShape | None:
        """The mesh that `mesh` describes."""
        return parse_mesh(self.mesh)

    def _check_numbers(self) -> None:
        if self.workers > _MOST_WORKERS:
            raise ValueError(
                f"`workers` is {self.workers}; more than {_MOST_WORKERS} processes are "
                "more than any machine is quicker with."
            )
        if self.edition is not None and self.labels is not None:
            raise ValueError("`edition` and `labels` exclude one another; give one.")
        check_schemes(self.normalization)
        if self.patient is not None:
            _check_pattern(self.patient)
        _ = self.meaning  # Raises if the labels cannot be used.
        if not self.learning_rate > 0:
            raise ValueError(f"`learning_rate` is {self.learning_rate}, not positive.")
        if self.warmup_steps >= self.steps and self.warmup_steps:
            raise ValueError(
                f"`warmup_steps` is {self.warmup_steps}, not less than `steps`, "
                f"{self.steps}."
            )
        if not 0 <= self.average_decay < 1:
            raise ValueError(
                f"`average_decay` is {self.average_decay}; it is 0 for none and below "
                "1 otherwise, such as 0.999."
            )
        if not 0 <= self.foreground_share <= 1:
            raise ValueError(
                f"`foreground_share` is {self.foreground_share}, not in 0..1."
            )
        if self.patch is not None and self.patch < 8:
            raise ValueError(f"`patch` is {self.patch}; it needs 8 voxels or more.")
        if self.patch is None and self.foreground_weights:
            raise ValueError("`foreground_weights` has no effect without `patch`.")
        if self.patch is not None and self.shape is not None:
            raise ValueError("`patch` and `shape` exclude one another; give one.")
        if self.device_memory is not None and not self.offload:
            raise ValueError(
                "`device_memory` needs `offload`: without it there is nothing to plan."
            )
        if self.device_memory is None and self.host_memory is not None:
            raise ValueError("`host_memory` is a part of a plan: give `device_memory`.")
        parse_slabs(self.slabs)
        if self.compress is not None and not self.offload:
            raise ValueError("`compress` needs `offload`: without it nothing leaves.")
        jaxswap.offload(compress=self.compress)  # Raises if it is no such type.
        for name in ("device_memory", "host_memory"):
            if getattr(self, name) is not None:
                parse_bytes(getattr(self, name), name)

    def to_yaml(self) -> str:
        """Write every value as YAML."""
        return yaml.safe_dump(to_plain(dataclasses.asdict(self)), sort_keys=False)


def make_config(values: Mapping[str, Any]) -> RunConfig:
    """Check names and types of values, and make a configuration from them.

    Args:
        values: Values by name of the attribute. Missing ones get their default.

    Returns:
        The configuration. Paths in it are absolute.

    Raises:
        ValueError: If a name is unknown, or a value has the wrong type or does not fit.

    Example:
        >>> make_config({"data": "cases", "steps": 10, "shape": [96, 96, 96]}).shape
        (96, 96, 96)
    """
    values = dict(values)
    check_names(values, {f.name for f in dataclasses.fields(RunConfig)})
    if not values.get("data"):
        raise ValueError("`data` is missing: give the data set's folder.")
    # The command that reads the settings again may start in another folder.
    for name in ("data", "init_from"):
        if values.get(name) is not None:
            values[name] = Path(values[name]).expanduser().absolute()
    if str(values.get("target") or "").endswith(".json"):
        values["target"] = str(Path(values["target"]).expanduser().absolute())
    if "augment" in values:
        values["augment"] = read_augmentation(values["augment"])
    if values.get("mesh") is not None:
        values["mesh"] = str(parse_mesh(values["mesh"]))
    if "exclude" in values:
        values["exclude"] = read_names("exclude", values["exclude"])
    for name in ("shape", "spacing_mm"):
        if values.get(name) is not None:
            values[name] = read_three(name, values[name])
    for name, value in values.items():
        values[name] = check_type(name, value, str(RunConfig.__annotations__[name]))
    return RunConfig(**values)


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"`patient` is {pattern!r}, no pattern: {error}.") from error
    if not groups:
        raise ValueError(
            f"`patient` is {pattern!r}; it needs a group, such as '(.+)_[0-9]+'."
        )
