"""Segmentation of whole medical volumes: network, data, training, comparison.

Uses only the public interface of jaxswap, which never imports this package. The MNI152
head needs `pip install "jaxswap[data]"`.
"""

from jaxswap.medical.anatomy import TISSUES as TISSUES
from jaxswap.medical.anatomy import Case as Case
from jaxswap.medical.anatomy import fit_to_cube as fit_to_cube
from jaxswap.medical.anatomy import load_mni152 as load_mni152
from jaxswap.medical.anatomy import resample_scores as resample_scores
from jaxswap.medical.comparison import Row as Row
from jaxswap.medical.comparison import compare as compare
from jaxswap.medical.comparison import tabulate as tabulate
from jaxswap.medical.deformation import DeformationConfig as DeformationConfig
from jaxswap.medical.deformation import deform as deform
from jaxswap.medical.deformation import normalize_intensities as normalize_intensities
from jaxswap.medical.demo import DemoConfig as DemoConfig
from jaxswap.medical.demo import prepare_demo as prepare_demo
from jaxswap.medical.demo import run_demo as run_demo
from jaxswap.medical.layers import CPU as CPU
from jaxswap.medical.layers import LEAN as LEAN
from jaxswap.medical.layers import TEXTBOOK as TEXTBOOK
from jaxswap.medical.layers import Layers as Layers
from jaxswap.medical.losses import dice_cross_entropy_loss as dice_cross_entropy_loss
from jaxswap.medical.losses import dice_loss as dice_loss
from jaxswap.medical.losses import dice_scores as dice_scores
from jaxswap.medical.losses import soft_dice as soft_dice
from jaxswap.medical.normalization import (
    instance_norm_leaky_relu as instance_norm_leaky_relu,
)
from jaxswap.medical.overlay import save_curve as save_curve
from jaxswap.medical.overlay import save_overlay as save_overlay
from jaxswap.medical.training import TrainConfig as TrainConfig
from jaxswap.medical.training import TrainState as TrainState
from jaxswap.medical.training import fit as fit
from jaxswap.medical.training import initialize as initialize
from jaxswap.medical.training import make_optimizer as make_optimizer
from jaxswap.medical.training import make_train_step as make_train_step
from jaxswap.medical.unet import PAPER as PAPER
from jaxswap.medical.unet import TINY as TINY
from jaxswap.medical.unet import UNet3D as UNet3D
from jaxswap.medical.volumes import Volume as Volume
from jaxswap.medical.volumes import VolumeError as VolumeError
from jaxswap.medical.volumes import load_labels as load_labels
from jaxswap.medical.volumes import load_volume as load_volume
from jaxswap.medical.volumes import save_labels as save_labels
