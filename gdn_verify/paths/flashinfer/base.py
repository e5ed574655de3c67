"""What the paths of FlashInfer share: where it is found, which card it needs, and what it is handed.

Read from flashinfer-python 0.7.2.post1; files named here and in the modules beside are in its folder `flashinfer`. The
kernels are written in CuTe DSL and compiled when first called, for SM90 and later; K = V = 128 in all of them, whatever
the functions in front allow (docs/implementations/flashinfer.md). States are [slots, HV, V, K] unless said otherwise.

Every function gets dense q, k, v, gates and ids: some kernels take a stride between tokens, and no caller that was read
relies on it (SGLang's `gdn_flashinfer.py` and vLLM 0.33.0's `qwen_gdn_linear_attn.py:313` hand dense ones over). A pool
may have holes between its slots, as vLLM's has.

What is wrong and loud is refused; what is wrong in silence is computed, and is a rule of the ledger (`cases/known`).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Dims, DType, StateOrder
from gdn_verify.cases.presentation import Presentation
from gdn_verify.paths.base import Launch, Missing, Path
from gdn_verify.paths.flashinfer.card import capability
from gdn_verify.paths.installed import function, release_of, version_of

if TYPE_CHECKING:
    from torch import Tensor

SINCE = (0, 7, 2)
"""The release that was read; nobody has read what others do with pads, gates and empty rows."""
INSTALL = "pip install 'flashinfer-python[cu13]==0.7.2.post1'"
COMPILERS = {"cutlass": "nvidia-cutlass-dsl[cu13]", "tvm_ffi": "apache-tvm-ffi"}
"""Packages by the module that FlashInfer imports of each: without one it imports all the same, and has no kernels."""
HEAD = Dims(128, 128)
VK = frozenset({StateOrder.VK})
BF16, F32 = frozenset({DType.BF16}), frozenset({DType.F32})
ALIGNED = 16
"""Bytes that the kernels load and store at a time; each slot of a pool begins at a multiple of them."""


class Flashinfer(Path):
    """A path that calls FlashInfer's functions, each by its entry."""

    hosts: tuple[str, ...] = ("cuda",)
    compiles = True  # every number of heads, and more
    #: The compute capabilities that its kernels are written for: from the first to the second, both included.
    cards: tuple[tuple[int, int], tuple[int, int]] = ((9, 0), (12, 1))
    #: Modules without which there is no kernel to call.
    needs: tuple[str, ...] = tuple(COMPILERS)

    def missing(self, host: str) -> Missing | None:
        return absent(self.needs) or unfit(self.cards)

    def load(self, host: str) -> str:
        for entry in self.entries:
            function(entry)
        return installed()

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return single_head(case) or unaligned(case, presentation)


def absent(needs: tuple[str, ...]) -> Missing | None:
    """Why there is nothing to import, or None."""
    if find_spec("flashinfer") is None:
        return Missing("flashinfer is not installed", INSTALL)
    found = installed()
    if release_of(found) < SINCE:
        since = ".".join(map(str, SINCE))
        return Missing(f"flashinfer {found or 'of no distribution'}: read were {since} and later", INSTALL)
    lacking = [COMPILERS[name] for name in needs if find_spec(name) is None]
    return Missing(f"{lacking[0]} is not installed", f"pip install '{lacking[0]}'") if lacking else None


def unfit(cards: tuple[tuple[int, int], tuple[int, int]]) -> Missing | None:
    """Why this machine's card does not run a path that is for `cards`, or None."""
    found, (first, last) = capability(), cards
    if found is None:
        return Missing(f"needs an NVIDIA card of {_sm(first)} or later: no driver answers")
    if first <= found <= last:
        return None
    return Missing(f"needs a card of {_sm(first)} to {_sm(last)}, not {_sm(found)}")


def _sm(pair: tuple[int, int]) -> str:
    return f"SM{pair[0]}{pair[1]}"


def installed() -> str:
    """The version that is installed, "" without a distribution of that name."""
    return version_of("flashinfer-python")


def dense(launch: Launch, name: str) -> Tensor:
    """A tensor of the launch's tokens, one behind the other and none of padding."""
    return compact(launch[name][: launch.batch.tokens])


def compact(tensor: Tensor) -> Tensor:
    """A copy with the strides of its shape, also where there is one element along an axis.

    `contiguous()` leaves the stride of such an axis, 6 of the one id in a table's column; marked as compact for the
    compiler (gdn_kernels/gdn_decode_bf16_state.py:71), that tensor is refused.
    """
    import torch

    return tensor.clone(memory_format=torch.contiguous_format)


def single_head(case: Case) -> str | None:
    """One value head: of a [B, 1, 1] gate no axis is the contiguous one (`mark_layout_dynamic` without a leading axis,
    gdn_kernels/gdn_decode_pretranspose.py:1125 and its like). On an H200 such a launch of float32 states ended in a
    CUDA error, after which a process is of no more use.
    """
    return "geometry.HV=1: a gate without a leading axis, and a CUDA error" if case.geometry.HV == 1 else None


def unaligned(case: Case, presentation: Presentation) -> str | None:
    """Holes that leave slots unaligned: asserted for float32 (gdn_kernels/gdn_decode_pretranspose.py:1038)."""
    hole = presentation.slot_pad * case.dtypes.state.itemsize
    return f"presentation.slot_pad={presentation.slot_pad}: no multiple of {ALIGNED} bytes" if hole % ALIGNED else None
