"""Segmentation of whole medical volumes: data, training, prediction, evaluation.

This package uses only the public interface of jaxswap, which never imports it. Nothing
is imported here, so that commands start fast. Import what you need from its module:

* data: `data.datasets` (find a data set), `data.label_maps` (what labels mean),
  `data.audit`, `data.splitting`, `data.anatomy`
* preparing: `preparing.preparing` (files to arrays), `preparing.prepared_cache`,
  `preparing.loading` (batches in the background), `preparing.augmentation`
* networks: `networks.unet` (isensee2017), `networks.residual_unet` (nnU-Net's ResEnc),
  `networks.layers`, `networks.fastest` (forms of convolutions), `networks.losses`,
  `networks.objective`, `networks.unet_program` (a training step to plan)
* runs: `runs.run_config` (settings), `runs.checkpoints`, `runs.run_log`
* training: `training.training_run`, `training.training_step`
* results: `prediction.prediction`, `prediction.sliding_window`,
  `prediction.case_prediction`, `scoring.metrics`, `scoring.evaluation`
* synthetic data: `synthesis.synthesis`, `synthesis.half_millimetre`

Older import paths, without the folder, lead to the same modules.
The MNI152 head needs `pip install "jaxswap[data]"`.
"""

import sys

from jaxswap.medical._paths import MovedModules

sys.meta_path.append(MovedModules())
