"""Which cases train and which validate."""

from __future__ import annotations

import numpy as np

from jaxswap.medical.data.case_files import CaseFiles, Dataset


def split(
    dataset: Dataset, fold: int = 0, folds: int = 5, seed: int = 0
) -> tuple[tuple[CaseFiles, ...], tuple[CaseFiles, ...]]:
    """Split the labeled cases of a data set.

    Where the data set says which fold a case validates in, that is respected, and
    `folds` and `seed` have no effect; cases without a fold always train. Otherwise
    cases are dealt to folds in an order that depends on their names and `seed` alone.
    Time points of one patient (`BraTS-GLI-00005-100`, `-101`) stay together.

    Args:
        dataset: The data set.
        fold: The fold that validates, from 0.
        folds: Number of folds.
        seed: Seed of the order.

    Returns:
        Training cases and validation cases, each sorted by name. They have no patient
        in common, and together are all labeled cases.

    Raises:
        ValueError: If there is no such fold, or a part would be empty.
    """
    cases = sorted(dataset.labeled, key=lambda case: case.name)
    given = sorted({case.fold for case in cases if case.fold is not None})
    if given:
        if fold not in given:
            known = ", ".join(map(str, given))
            raise ValueError(f"`fold` is {fold}; {dataset.root} has folds {known}.")
        chosen = {case.name for case in cases if case.fold == fold}
    else:
        chosen = _deal(cases, fold, folds, seed, dataset)
    training = tuple(case for case in cases if case.name not in chosen)
    validation = tuple(case for case in cases if case.name in chosen)
    if not training:
        raise ValueError(
            f"{dataset.root}: all {len(cases)} labeled cases are in fold {fold}, so "
            "that none is left for training."
        )
    return training, validation


def patient_of(name: str) -> str:
    """The part of a case's name that its patient's other time points share.

    Args:
        name: Name of the case.

    Example:
        >>> patient_of("BraTS-GLI-00005-101"), patient_of("BraTS20_Training_001")
        ('BraTS-GLI-00005', 'BraTS20_Training_001')
    """
    is_dashed = name.lower().startswith("brats-") and name.count("-") > 2
    return name.rpartition("-")[0] if is_dashed else name


def _deal(
    cases: list[CaseFiles], fold: int, folds: int, seed: int, dataset: Dataset
) -> set[str]:
    patients = sorted({patient_of(case.name) for case in cases})
    if folds < 2:
        raise ValueError(f"`folds` is {folds}, not 2 or more.")
    if not 0 <= fold < folds:
        raise ValueError(f"`fold` is {fold}; with {folds} folds it is 0..{folds - 1}.")
    if len(patients) < folds:
        raise ValueError(
            f"{dataset.root}: has {len(patients)} labeled patients, too few for "
            f"{folds} folds."
        )
    order = np.random.default_rng(seed).permutation(len(patients))
    chosen = {patients[index] for index in order[fold::folds]}
    return {case.name for case in cases if patient_of(case.name) in chosen}
