"""Segmentation of whole medical volumes: data, training, prediction, evaluation.

Uses only the public interface of jaxswap, which never imports this package. Nothing is
imported here, so that a command starts fast; take what you need from its module:

* data: `data.datasets` (find a data set), `data.label_maps` (what labels mean),
  `data.audit`, `data.splitting`, `data.anatomy`
* preparing: `preparing.preparing` (files to arrays), `preparing.prepared_cache`,
  `preparing.loading` (batches in the background), `preparing.augmentation`
* networks: `networks.unet` (isensee2017), `networks.residual_unet` (nnU-Net's ResEnc),
  `networks.layers`
* training: `training.run_config`, `training.training_run`, `training.training_step`,
  `training.objective`, `training.checkpoints`, `training.run_log`
* results: `prediction.prediction`, `prediction.sliding_window`,
  `prediction.case_prediction`, `scoring.metrics`, `scoring.evaluation`
* synthetic data: `synthesis.synthesis`, `synthesis.half_millimetre`,
  `experiment.deformation`

The MNI152 head needs `pip install "jaxswap[data]"`.
"""
