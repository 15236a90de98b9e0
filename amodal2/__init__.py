"""Amodal segmentation of images and videos on top of Detectron2.

Importing this package imports neither torch nor Detectron2 and touches no device. What is where:
``config`` (keys), ``structures`` (types passed between the parts), ``ops`` (kernels), ``layers``
and ``modeling`` (networks), ``data``, ``evaluation``, ``video``, ``visualization``, ``engine``.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
