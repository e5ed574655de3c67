"""Paths on CUDA that are right, and of one case of which a kernel beside is not: for a tool on a card to find."""

from __future__ import annotations

from collections.abc import Iterable

from fake_paths import DIMS, Fake

from gdn_verify.hosts.sanitizer import TOOLS
from gdn_verify.paths import Launch, Outputs, Path

GUILTY, INNOCENT = DIMS[1], DIMS[0]
"""Head dimensions K of the case with the defect, and of one without."""
SEEN = TOOLS[:3]
"""The tools that have a defect planted for them."""


class Planted(Fake):
    """The delta rule in torch's elementwise operators, then a tiny kernel; at GUILTY the kernel is a wrong one."""

    hosts = ("cuda",)

    def __init__(self, tool: str, healthy: bool) -> None:
        super().__init__(f"{'healthy' if healthy else 'planted'}-{tool}")
        self._tool, self._healthy = tool, healthy
        self.kernels = (f"planted_{tool}_kernel",)

    def load(self, host: str) -> str:
        import planted_kernels

        return planted_kernels.__name__

    def run(self, launch: Launch) -> Outputs:
        import planted_kernels
        import torch

        g, state = launch.geometry, launch["initial_state"].clone()
        q, k = (_unit(launch[name]).repeat_interleave(g.ratio, dim=1) for name in ("q", "k"))
        state *= torch.exp(launch["g"])[..., None, None]
        u = launch["beta"][..., None] * (launch["v"] - (state * k[:, :, None]).sum(-1))
        state += u[..., None] * k[:, :, None]
        launch["out"].copy_((state * (q * launch.options.q_scale(g))[:, :, None]).sum(-1))
        planted_kernels.PLANTED[self._tool](self._healthy or g.K != GUILTY)
        return Outputs(o=launch["out"], final_state=state)


def _unit(x):  # type: ignore[no-untyped-def]  # Tensor in, Tensor out; torch is not imported here
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def paths() -> Iterable[Path]:
    """What the entry point gives: for each tool a path with its defect, and one without; and so for groups of warps."""
    return [Planted(tool, healthy) for tool in (*SEEN, "warps") for healthy in (False, True)]
