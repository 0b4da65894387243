"""A trained network and cases -> labels."""

from jaxswap.medical._paths import attributes_of_module

__getattr__ = attributes_of_module(__name__)
