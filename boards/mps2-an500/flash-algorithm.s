@ What a debug probe lets the core do to its flash. The code memory of this board is RAM, which is treated as if it were NOR flash:
@ erasing makes ones, programming makes zeros of them. The bytes of it are in chip.yaml; arguments and results are those of CMSIS-Pack.

        .syntax unified
        .thumb
        .global init, uninit, erase_all, erase_sector, program_page

        .thumb_func
init:
        .thumb_func
uninit:
        movs    r0, #0
        bx      lr

        .thumb_func
erase_all:                      @ all 4 MiB
        movs    r0, #0
        movs    r1, #1
        lsls    r1, r1, #22
        b       fill

        .thumb_func
erase_sector:                   @ r0: its address
        movs    r1, #1
        lsls    r1, r1, #12
fill:
        adds    r1, r1, r0
        movs    r2, #0
        mvns    r2, r2
1:      stmia   r0!, {r2}
        cmp     r0, r1
        bne     1b
        movs    r0, #0
        bx      lr

        .thumb_func
program_page:                   @ r0: where, r1: bytes, r2: what
        push    {r4, lr}
        adds    r1, r1, r0
2:      ldmia   r2!, {r3}
        ldr     r4, [r0]
        ands    r4, r3
        stmia   r0!, {r4}
        cmp     r4, r3          @ a cell that was not erased
        bne     3f
        cmp     r0, r1
        blo     2b
        movs    r0, #0
        pop     {r4, pc}
3:      movs    r0, #1
        pop     {r4, pc}
