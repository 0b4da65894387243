"""Which patient a case is of, so that visits stay together."""

import pytest

from jaxswap.medical.data.patients import patient_of


@pytest.mark.parametrize(
    ("patient", "names"),
    [
        ("p1", ["p1_pre", "p1_post", "p1_baseline", "p1_followup2", "pre_p1", "p1"]),
        ("p1", ["p1_visit1", "p1-visit-02", "p1_tp3", "p1_t0", "p1_v12", "p1_day12"]),
        ("p1", ["p1_2019-03-02", "p1_20190302", "p1_20190302_pre"]),
        ("sub-07", ["sub-07_ses-01", "sub-07_ses-02_T1w", "sub-07"]),
        ("BraTS-GLI-00005", ["BraTS-GLI-00005-100", "BraTS-GLI-00005-101"]),
        ("BraTS20_Training_001", ["BraTS20_Training_001"]),
        ("H_001", ["H_001"]),
        ("hippocampus_12", ["hippocampus_12"]),
        ("la_t", ["la_t"]),
        ("pre", ["pre"]),
    ],
)
def test_words_for_visits_are_left_out(patient, names):
    assert {patient_of(name) for name in names} == {patient}


def test_other_names_need_a_pattern():
    assert patient_of("A17-3", "(.+)-[0-9]+") == "A17"
    for pattern in ("(.+)_[0-9]+", ".+"):
        with pytest.raises(ValueError, match="finds no patient in the name A17-3"):
            patient_of("A17-3", pattern)
