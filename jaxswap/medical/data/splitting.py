"""Which cases are for training and which for validation."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from jaxswap.medical.data.case_files import CaseFiles, Dataset
from jaxswap.medical.data.patients import patient_of


def leave_out(dataset: Dataset, names: Collection[str]) -> Dataset:
    """Return a data set without some of its cases.

    Args:
        dataset: The data set.
        names: Names of the cases to leave out.

    Raises:
        ValueError: If it has no case of one of the names.
    """
    known = {case.name for case in dataset.cases}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"{len(known)} others are."
            raise ValueError(
                f"`exclude` has {name!r}, which is no case of {dataset.root}; {hint}"
            )
    kept = tuple(case for case in dataset.cases if case.name not in names)
    return replace(dataset, cases=kept)


def split(
    dataset: Dataset,
    fold: int | Literal["all"] = 0,
    folds: int = 5,
    seed: int = 0,
    patient: str | None = None,
) -> tuple[tuple[CaseFiles, ...], tuple[CaseFiles, ...]]:
    """Split the labeled cases of a data set.

    If the data set has folds, they are used: `folds` and `seed` have no effect, and
    cases without a fold are always for training. Otherwise cases are distributed over
    folds. Their order depends only on their names and on `seed`. Visits of one patient
    (`BraTS-GLI-00005-100`, `-101`; `p1_pre`, `p1_post`) are in the same fold.

    Args:
        dataset: The data set.
        fold: The fold that validates, from 0. With "all", all cases are for training.
        folds: Number of folds.
        seed: Seed of the order.
        patient: Pattern of the patient in names, see `patient_of`.

    Returns:
        Training cases and validation cases, each sorted by name. Together they are all
        labeled cases. No patient is in both, unless folds of the data set say so.

    Raises:
        ValueError: If there is no such fold, or a part would be empty.
    """
    cases = sorted(dataset.labeled, key=lambda case: case.name)
    if fold == "all":
        if not cases:
            raise ValueError(f"{dataset.root}: has no labeled case.")
        return tuple(cases), ()
    given = sorted({case.fold for case in cases if case.fold is not None})
    if given:
        if fold not in given:
            known = ", ".join(map(str, given))
            raise ValueError(f"`fold` is {fold}; {dataset.root} has folds {known}.")
        chosen = {case.name for case in cases if case.fold == fold}
    else:
        chosen = _deal(cases, fold, folds, seed, dataset, patient)
    training = tuple(case for case in cases if case.name not in chosen)
    validation = tuple(case for case in cases if case.name in chosen)
    if not training:
        raise ValueError(
            f"{dataset.root}: all {len(cases)} labeled cases are in fold {fold}, so "
            "none is left for training."
        )
    return training, validation


def _deal(
    cases: list[CaseFiles],
    fold: int,
    folds: int,
    seed: int,
    dataset: Dataset,
    pattern: str | None,
) -> set[str]:
    patient = {case.name: patient_of(case.name, pattern) for case in cases}
    patients = sorted(set(patient.values()))
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
    return {case.name for case in cases if patient[case.name] in chosen}


def shared_patients(
    parts: tuple[Sequence[CaseFiles], Sequence[CaseFiles]], patient: str | None = None
) -> list[str]:
    """List patients who have cases in both parts.

    Args:
        parts: From `split`.
        patient: Pattern of the patient in names, see `patient_of`.
    """
    first, second = ({patient_of(c.name, patient) for c in part} for part in parts)
    return sorted(first & second)
