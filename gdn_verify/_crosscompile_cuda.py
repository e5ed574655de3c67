"""This project's CUDA sources compiled for a chip by NVRTC, which needs neither a card nor its driver."""

from __future__ import annotations

import time
from collections.abc import Iterator

from gdn_verify.crosscompile import CUDA_KERNELS, NotCaptured, Row
from gdn_verify.emulator.crosscompile.resources import Compiled, Resources
from gdn_verify.emulator.crosscompile.targets import Chip
from gdn_verify.kernels.cuda import compile as nvrtc
from gdn_verify.kernels.cuda.samples import Sample, samples


def cuda_kernels(chip: Chip, required: bool) -> Iterator[Row | NotCaptured]:
    """A row for each kernel and configuration; nothing for a chip that is not NVIDIA's."""
    if chip.backend != "cuda":
        return
    if (reason := nvrtc.missing()) is not None:
        yield NotCaptured(CUDA_KERNELS, chip.name, reason, required)
        return
    capability = int(chip.arch)
    for sample in samples(capability):
        name = sample.plan.kernel.name
        came = _compiled(sample, nvrtc.architecture(capability))
        yield Row(CUDA_KERNELS, sample.words, name, sample.configuration, chip.name, True, came)


def _compiled(sample: Sample, arch: str) -> Compiled:
    started, plan = time.perf_counter(), sample.plan
    try:
        found = nvrtc.built(plan.kernel.source(), arch).resources
    except nvrtc.CompileError as error:
        return Compiled(None, str(error))
    needs = {**found, "shared_bytes": found["shared_bytes"] + plan.ring_bytes}
    return Compiled(Resources(threads=plan.threads, **needs), seconds=time.perf_counter() - started)
