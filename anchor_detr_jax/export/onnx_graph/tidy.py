"""What is left to do when all nodes are there: known groups of them become one, unused ones go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from anchor_detr_jax.export.onnx_graph.fusions import FUSIONS, Nodes
from anchor_detr_jax.export.onnx_graph.graph import Graph

__all__ = ["tidied"]


def tidied(
    graph: Graph, outputs: Sequence[str]
) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Nodes that results depend on, groups that onnxruntime has one operator for made one."""
    known = Nodes(graph.initializers, graph.shapes)
    for node in graph.nodes:
        known.add(_fused(known, node))
    needed = set(outputs)
    kept: list[onnx.NodeProto] = []
    for node in reversed(known.nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    kept.reverse()
    return kept, {name: array for name, array in known.constants.items() if name in needed}


def _fused(known: Nodes, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A node, or what may stand in its place: the last of these has its name and its output."""
    for operator, fusion in FUSIONS:
        if node.op_type == operator:
            replacement = fusion(known, node)
            if replacement is not None:
                return [*replacement[:-1], *_fused(known, replacement[-1])]
    return [node]
