"""Small kernels that show what the emulated machine does, and what it does not let pass."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn_verify.kernels.cuda.arguments import Arguments
from gdn_verify.kernels.cuda.emulate import Kernel
from gdn_verify.kernels.cuda.sources import NUMBERS, PROCESSOR, whole

ARGUMENTS = Arguments(pointer=("x", "y"))
HEAD = "#define THREADS 64\nstruct Shared {\n  Array<float, 64> number;\n  Mailbox box;\n};\n"


def run(body: str, x: Tensor, y: Tensor, *, blocks: int = 1, cluster: int = 1, ring_bytes: int = 0) -> None:
    """A kernel of this body on x and y, of 64 threads a block, with `s.number` [64] in shared memory."""
    text = f"KERNEL(toy) {{\n  SHARED(Shared, s);\n  const int i = thread_index();\n{body}\n}}\n"
    kernel = Kernel(whole(PROCESSOR) + whole(NUMBERS) + HEAD + ARGUMENTS.text + text, "toy")
    kernel.launch(ARGUMENTS.packed(x, y), (blocks, 1), 64, cluster, ring_bytes)


def numbers(count: int = 64) -> Tensor:
    """Different ones."""
    return torch.arange(count, dtype=torch.float32) + 1
