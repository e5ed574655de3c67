"""Instructions that steer a wave, or move numbers between lanes: the machine itself carries them out."""

from __future__ import annotations

from gdn_verify.emulator.amdgpu.table import Family, Operation, add

VOP1, VOP3, SOPP, SMEM, DS = Family.VOP1, Family.VOP3, Family.SOPP, Family.SMEM, Family.DS

for _code, _name in (
    (0, "s_nop"),
    (1, "s_endpgm"),
    (2, "s_branch"),
    (4, "s_cbranch_scc0"),
    (5, "s_cbranch_scc1"),
    (6, "s_cbranch_vccz"),
    (7, "s_cbranch_vccnz"),
    (8, "s_cbranch_execz"),
    (9, "s_cbranch_execnz"),
    (10, "s_barrier"),
    (12, "s_waitcnt"),
    (14, "s_sleep"),
    (15, "s_setprio"),
):
    add(Operation(_name, SOPP, _code))

for _place, _dwords in enumerate((1, 2, 4, 8, 16)):
    _suffix = "" if _dwords == 1 else f"x{_dwords}"
    add(Operation(f"s_load_dword{_suffix}", SMEM, _place, traits={"dwords": _dwords}))

add(Operation("v_nop", VOP1, 0))
add(Operation("v_readfirstlane_b32", VOP1, 2))
add(Operation("v_readlane_b32", VOP3, 0x289))
add(Operation("v_writelane_b32", VOP3, 0x28A))
add(Operation("v_mbcnt_lo_u32_b32", VOP3, 0x28C))
add(Operation("v_mbcnt_hi_u32_b32", VOP3, 0x28D))
add(Operation("v_permlane16_swap_b32", VOP1, 89, traits={"only": "gfx950"}))
add(Operation("v_permlane32_swap_b32", VOP1, 90, traits={"only": "gfx950"}))

add(Operation("ds_swizzle_b32", DS, 61))
add(Operation("ds_permute_b32", DS, 62))
add(Operation("ds_bpermute_b32", DS, 63))
