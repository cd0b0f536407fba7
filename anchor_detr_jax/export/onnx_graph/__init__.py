"""From a jaxpr to an ONNX graph; it knows of no model."""

from anchor_detr_jax.export.onnx_graph.translate import OPSET, onnx_model

__all__ = ["OPSET", "onnx_model"]
