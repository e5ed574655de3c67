"""Reports as compute-sanitizer's tools print them, of kernels that do not exist, and a tool that prints none itself."""

from __future__ import annotations

from pathlib import Path

OUT_OF_BOUNDS = """\
========= Invalid __global__ write of size 4 bytes
=========     at far_store_kernel+0x1a0 in far_kernels.py:12
=========     by thread (64,0,0) in block (0,0,0)
=========     Access to 0x7f5c00000100 is out of bounds
=========     and is 1 bytes after the nearest allocation at 0x7f5c00000000 of size 256 bytes
=========     Saved host backtrace up to driver entry point at kernel launch time
=========         Host Frame: launch [0x16a3] in __triton_launcher.cpython-311-x86_64-linux-gnu.so
=========
"""
NEIGHBOUR = OUT_OF_BOUNDS.replace("thread (64,0,0)", "thread (65,0,0)").replace("100 is out", "104 is out")
OLD_FORM = """\
========= Invalid __shared__ read of size 2 bytes
=========     at 0x2570 in /home/someone/far_kernels.py:223:far_load_kernel_0d1d2d
=========     by thread (224,0,0) in block (4,0,0)
=========     Address 0x1bc20 is out of bounds
=========
"""
IN_A_FUNCTION = """\
========= Invalid __global__ read of size 8 bytes
=========     at far_helper+0x20 in far_kernels.py:4
=========     by thread (0,0,0) in block (7,0,0)
=========     Access to 0x7f5c00000003 is misaligned
=========     Device Frame: far_load_kernel+0x90 in far_kernels.py:31
=========
"""
RACE = """\
========= Error: Race reported between Write access at far_race_kernel+0x430 in far_kernels.py:46
=========     and Read access at far_race_kernel+0x770 in far_kernels.py:55 [248 hazards]
=========     and Read access at far_race_kernel+0x7a0 in far_kernels.py:56 [16 hazards]
=========
"""
UNINITIALISED = """\
========= Uninitialized __global__ memory read of size 4 bytes
=========     at far_scratch_kernel+0x90 in far_kernels.py:70
=========     by thread (31,0,0) in block (0,0,0)
=========     Address 0x7f5c00000a00
=========
"""
READ_BY_TORCH = """\
========= Uninitialized __global__ memory read of size 8 bytes
=========     at void at::native::vectorized_elementwise_kernel<(int)4, at::native::Copy<float>>(int, T2, T3)+0x150
=========     by thread (3,0,0) in block (0,0,0)
=========     Address 0x7f5c00000b00
=========
"""
COPIED_TO_HOST = """\
========= Host API memory access error at host access to 0x7f5c00000c00 of size 400 bytes
=========     Uninitialized access at 0x7f5c00000d00 on access by cudaMemcpy source
=========
"""
DIVERGENT = """\
========= Barrier error detected. Divergent thread(s) in warp
=========     at far_barrier_kernel+0xf0 in far_kernels.py:79
=========     by thread (37,0,0) in block (0,0,0)
=========
"""
OVERFULL = """\
========= Warning: Maximum number of hazards reached. Environment variable X can be used to increase this count.
=========
"""
CLEAN = "========= ERROR SUMMARY: 0 errors\n"
CLEAN_OF_RACES = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n"

TOOL = """\
#!/bin/sh
echo "========= COMPUTE-SANITIZER"
while [ "${1#/}" = "$1" ]; do shift; done  # its own options: the command that it runs begins with a slash
"$@"
code=$?
echo "$FAKE_SUMMARY"
exit $code
"""


def install_tool(folder: Path) -> Path:
    """A compute-sanitizer in `folder` that runs a command and prints `$FAKE_SUMMARY` at its end."""
    tool = folder / "compute-sanitizer"
    tool.write_text(TOOL, encoding="utf-8")
    tool.chmod(0o755)
    return tool
