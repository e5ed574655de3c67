"""Hosts: where a path runs. Each is a worker process whose environment is set before anything is imported."""

from gdn_verify.hosts.amdgpu import GFX942, GFX950
from gdn_verify.hosts.base import Host
from gdn_verify.hosts.cpu import CPU
from gdn_verify.hosts.emulated import EMULATED_CUDA
from gdn_verify.hosts.gpu import CUDA, ROCM
from gdn_verify.hosts.interpreter import INTERPRETER

HOSTS: dict[str, Host] = {host.name: host for host in (CPU, INTERPRETER, EMULATED_CUDA, GFX942, GFX950, CUDA, ROCM)}

GPUS = (CUDA.name, ROCM.name)
"""Names of the hosts whose kernels are compiled, for a device that an error may leave unusable."""

EMULATED_AMD = (GFX942.name, GFX950.name)
"""Names of AMD's chips whose machine code is executed on a processor; only where they are asked for by name."""

COMPILING = (*GPUS, EMULATED_CUDA.name, *EMULATED_AMD)
"""Names of the hosts where a kernel is compiled for each geometry, so that cases keep to a few of them."""

SLOW = (INTERPRETER.name, *EMULATED_AMD)
"""Names of the hosts where a launch takes so long that fewer cases are run."""

DEFAULT = tuple(name for name in HOSTS if name not in EMULATED_AMD)
"""Names of the hosts that are meant where none is named."""


def label(name: str) -> str:
    """What a table calls a host: nothing that is emulated may be taken for a card."""
    return f"{name} (emulated)" if name in EMULATED_AMD else name


__all__ = ["COMPILING", "DEFAULT", "EMULATED_AMD", "GPUS", "HOSTS", "SLOW", "Host", "label"]
