"""solov2-edge: light SOLOv2 checkpoints in, verified ONNX, TFLite and Core ML artefacts and instance masks out.

Importing this package loads the standard library only; ``solov2_edge.runtime`` adds numpy and OpenCV.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
