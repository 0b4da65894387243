"""Segmentation of whole medical volumes: data, training, prediction, evaluation.

Uses only the public interface of jaxswap, which never imports this package. Nothing is
imported here, so that a command starts fast; take what you need from its module:

* data: `datasets` (find a data set), `label_maps` (what labels mean), `preparing`
  (files to arrays), `prepared_cache`, `loading` (batches in the background), `audit`,
  `splitting`
* networks: `unet` (isensee2017), `residual_unet` (nnU-Net's ResEnc), `layers`
* training: `run_config`, `training_run`, `training_step`, `objective`, `augmentation`,
  `checkpoints`, `run_log`
* results: `prediction`, `sliding_window`, `case_prediction`, `metrics`, `evaluation`
* synthetic data: `synthesis`, `half_millimetre`, `anatomy`, `deformation`

The MNI152 head needs `pip install "jaxswap[data]"`.
"""
