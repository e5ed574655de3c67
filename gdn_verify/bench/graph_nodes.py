"""What a captured graph launches, asked of the driver: the count is of the graph that is timed, not of a source."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch

# CUgraphNodeType and hipGraphNodeType agree: 0 kernel, 1 memcpy, 2 memset; the others move no data.
_LAUNCHED = (0, 1, 2)
Call = Callable[..., int]
"""A function of the driver; it returns a status, 0 for success."""


def count_launches(graph: int) -> int | None:
    """Kernels, copies and fills among the nodes of a raw cudaGraph_t or hipGraph_t; None if the driver cannot say."""
    try:
        get_nodes, get_type = _driver()
    except (OSError, AttributeError):
        return None
    nodes = _nodes(get_nodes, graph)
    return None if nodes is None else sum(_type(get_type, node) in _LAUNCHED for node in nodes)


def _driver() -> tuple[Call, Call]:
    if torch.version.hip:
        library = ctypes.CDLL("libamdhip64.so")
        return library.hipGraphGetNodes, library.hipGraphNodeGetType
    library = ctypes.CDLL("libcuda.so.1")
    return library.cuGraphGetNodes, library.cuGraphNodeGetType


def _nodes(get_nodes: Call, graph: int) -> list[int] | None:
    handle, count = ctypes.c_void_p(graph), ctypes.c_size_t()
    if get_nodes(handle, None, ctypes.byref(count)):
        return None
    nodes = (ctypes.c_void_p * count.value)()
    if get_nodes(handle, nodes, ctypes.byref(count)):
        return None
    return [node for node in nodes if node is not None]


def _type(get_type: Call, node: int) -> int:
    found = ctypes.c_int(-1)
    status = get_type(ctypes.c_void_p(node), ctypes.byref(found))
    return -1 if status else found.value
