/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a BPF program of its own, `hf_burner`, until stopped: main → run_program
 * → bpf(2) → bpf_prog_…_hf_burner in the kernel. Needs CAP_BPF.
 */
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "spin.h"

#define N_INSNS 100000
static struct bpf_insn program[N_INSNS];

NOINLINE static void run_program(int fd)
{
	static char packet[64];
	union bpf_attr attr;

	for (;;) {
		memset(&attr, 0, sizeof(attr));
		attr.test.prog_fd = fd;
		attr.test.data_in = (uintptr_t)packet;
		attr.test.data_size_in = sizeof(packet);
		attr.test.repeat = 100;
		if (syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attr, sizeof(attr)) < 0) {
			perror("BPF_PROG_TEST_RUN");
			_exit(1);
		}
	}
}

int main(void)
{
	union bpf_attr attr;
	int fd;

	program[0] = (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 3};
	for (int i = 1; i < N_INSNS - 1; i++)
		program[i] = (struct bpf_insn){.code = BPF_ALU64 | BPF_MUL | BPF_K, .imm = 5};
	program[N_INSNS - 1] = (struct bpf_insn){.code = BPF_JMP | BPF_EXIT};
	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	attr.insns = (uintptr_t)program;
	attr.insn_cnt = N_INSNS;
	attr.license = (uintptr_t) "Apache-2.0";
	strcpy(attr.prog_name, "hf_burner");
	fd = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	if (fd < 0) {
		perror("BPF_PROG_LOAD");
		return 1;
	}
	CALL((run_program(fd), 0));
	return 0;
}
