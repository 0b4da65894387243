"""Small folders of references and predictions, for tests."""

import nibabel as nib
import numpy as np

SHAPE = (20, 18, 16)


def tumour(shift=0, shape=SHAPE):
    """Labels of BraTS 2023: oedema around enhancing tumour around necrosis."""
    labels = np.zeros(shape, np.uint8)
    for label, margin in ((2, 0), (3, 2), (1, 3)):
        inside = tuple(slice(4 + margin, 13 - margin) for _ in range(3))
        labels[inside] = label
    return np.roll(labels, shift, 0)


def write(path, data, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


def write_case(root, case, labels=None, image=True):
    """A case of BraTS 2023 with its four images."""
    labels = tumour() if labels is None else labels
    folder = root / case
    if image:
        for channel in ("t1n", "t1c", "t2w", "t2f"):
            write(
                folder / f"{case}-{channel}.nii.gz", labels.astype(np.int16) * 50 + 100
            )
    return write(folder / f"{case}-seg.nii.gz", labels)


def case_name(index):
    return f"BraTS-GLI-{index:05d}-000"
