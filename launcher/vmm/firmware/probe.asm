# The firmware of the KVM trial, for the GNU assembler. probe.bin holds its last
# 256 bytes, the rest is zero; they were made by
#
#	as -o probe.o probe.asm
#	ld -m elf_x86_64 -Ttext=0xffff0000 -e start --oformat binary -o rom probe.o
#	tail -c 256 rom >probe.bin
#
# From reset it goes where a kernel goes: real mode, protected mode, paging, long
# mode, the stack. Then it writes 0x2d to port 0xf4, where QEMU's
# isa-debug-exit ends the process with status 0x2d * 2 + 1 = 91.
	.code16
	.text
top:
	.org 0xff00
	.globl start
start:
	cli
	cld
	xor %ax, %ax
	mov %ax, %ss
	lgdtl %cs:(gdtdesc - top)
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl $8, $(prot)
	.code32
prot:
	mov $16, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $0x10000, %edi
	xor %eax, %eax
	mov $0x1000, %ecx
	rep stosl
	movl $0x11003, 0x10000
	movl $0x12003, 0x11000
	movl $0x13003, 0x11018
	movl $0x00000083, 0x12000
	movl $0xffe00083, 0x13ff8
	mov %cr4, %eax
	or $0x20, %al
	mov %eax, %cr4
	mov $0x10000, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	ljmp $24, $(long)
	.code64
long:
	mov $0x20000, %rsp
	mov $0x5a, %eax
	push %rax
	pop %rax
	shr $1, %al
	out %al, $0xf4
1:	hlt
	jmp 1b
	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
	.quad 0x00af9b000000ffff
gdtdesc:
	.word 31
	.long gdt
	.org 0xfff0
	.code16
	jmp start
	.org 0x10000
