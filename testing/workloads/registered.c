/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registered OBJECT [OTHER [SECONDS]]: a JIT compiler without the compiler. It places the code of
 * an object file (registered_code.c) and its call frame information in memory of its own, relocates
 * them, and registers the object with GDB's interface, as LLVM does: of the copy that is registered
 * only the section headers' addresses are changed. Then
 *
 *   main → run → jit_entry → jit_middle ×3 → jit_leaf
 *                          → callback
 *
 * until stopped or so many seconds are over. With OTHER, whose functions have other names
 * (other_entry, …), the two take turns at the very same addresses, a tenth of a second each.
 */
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include "spin.h"

#define AREA_BYTES (256UL << 10)

/* gdb/doc/gdb.texinfo @ gdb 13, "Declarations" of "JIT Compilation Interface". */
struct jit_code_entry {
	struct jit_code_entry *next, *prev;
	const char *symfile_addr;
	uint64_t symfile_size;
};

struct jit_descriptor {
	uint32_t version, action_flag;
	struct jit_code_entry *relevant_entry, *first_entry;
};

struct jit_descriptor __jit_debug_descriptor = {1, 0, NULL, NULL};

NOINLINE void __jit_debug_register_code(void)
{
	__asm__ volatile("" ::: "memory");
}

typedef void (*entry_fn)(void (*)(unsigned long), unsigned long);

NOINLINE static void callback(unsigned long turns)
{
	SPIN(turns);
}

NOINLINE static void run(entry_fn entry, double seconds)
{
	struct timespec from, now;

	clock_gettime(CLOCK_MONOTONIC, &from);
	do {
		CALL((entry(callback, 1000003), 0));
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (seconds <= 0 ||
		 now.tv_sec - from.tv_sec + (now.tv_nsec - from.tv_nsec) / 1e9 < seconds);
}

static void die(const char *why)
{
	fprintf(stderr, "registered: %s\n", why);
	exit(1);
}

static char *read_file(const char *path, size_t *bytes)
{
	FILE *file = fopen(path, "rb");
	char *image;

	if (!file || fseek(file, 0, SEEK_END))
		die(path);
	*bytes = (size_t)ftell(file);
	rewind(file);
	image = malloc(*bytes);
	if (!image || fread(image, 1, *bytes, file) != *bytes)
		die(path);
	fclose(file);
	return image;
}

/* Places the sections that take memory, and relocates them; returns jit_entry or other_entry. */
static entry_fn load(char *image, char *area)
{
	Elf64_Ehdr *head = (Elf64_Ehdr *)image;
	Elf64_Shdr *sections = (Elf64_Shdr *)(image + head->e_shoff);
	uint64_t at = (uint64_t)area, entry = 0;

	for (int i = 0; i < head->e_shnum; i++) {
		Elf64_Shdr *section = &sections[i];

		if (!(section->sh_flags & SHF_ALLOC) || section->sh_size == 0)
			continue;
		at = (at + 63) & ~63UL;
		if (at + section->sh_size > (uint64_t)area + AREA_BYTES)
			die("no room");
		section->sh_addr = at;
		if (section->sh_type != SHT_NOBITS)
			memcpy((void *)at, image + section->sh_offset, section->sh_size);
		at += section->sh_size;
	}
	for (int i = 0; i < head->e_shnum; i++) {
		Elf64_Shdr *section = &sections[i], *target = &sections[section->sh_info];
		Elf64_Rela *rela = (Elf64_Rela *)(image + section->sh_offset);
		Elf64_Sym *symbols = (Elf64_Sym *)(image + sections[section->sh_link].sh_offset);

		if (section->sh_type != SHT_RELA || target->sh_addr == 0)
			continue;
		for (size_t n = 0; n < section->sh_size / sizeof(*rela); n++) {
			Elf64_Sym *symbol = &symbols[ELF64_R_SYM(rela[n].r_info)];
			uint64_t place = target->sh_addr + rela[n].r_offset;
			uint64_t value = sections[symbol->st_shndx].sh_addr + symbol->st_value +
					 (uint64_t)rela[n].r_addend;

			switch (ELF64_R_TYPE(rela[n].r_info)) {
			case R_X86_64_PC32:
			case R_X86_64_PLT32:
				*(uint32_t *)place = (uint32_t)(value - place);
				break;
			case R_X86_64_64:
				*(uint64_t *)place = value;
				break;
			default:
				die("a relocation of another type");
			}
		}
	}
	for (int i = 0; i < head->e_shnum; i++) {
		Elf64_Shdr *section = &sections[i];
		Elf64_Sym *symbols = (Elf64_Sym *)(image + section->sh_offset);
		char *names = image + sections[section->sh_link].sh_offset;

		if (section->sh_type != SHT_SYMTAB)
			continue;
		for (size_t n = 0; n < section->sh_size / sizeof(*symbols); n++)
			if (strstr(names + symbols[n].st_name, "_entry"))
				entry = sections[symbols[n].st_shndx].sh_addr + symbols[n].st_value;
	}
	if (!entry)
		die("no entry");
	return (entry_fn)entry;
}

int main(int argc, char **argv)
{
	double seconds = argc > 3 ? atof(argv[3]) : 0;
	int n_objects = argc > 2 ? 2 : 1;
	char *area;

	if (argc < 2)
		return 2;
	area = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		die("no memory");
	for (int turn = 0; turn < (n_objects > 1 ? (int)(seconds * 10) : 1); turn++) {
		struct jit_code_entry *entry = calloc(1, sizeof(*entry));
		size_t bytes;
		char *image = read_file(argv[1 + turn % n_objects], &bytes);
		entry_fn code = load(image, area);

		if (!entry)
			die("no memory");
		entry->symfile_addr = image;
		entry->symfile_size = bytes;
		entry->next = __jit_debug_descriptor.first_entry;
		if (entry->next)
			entry->next->prev = entry;
		__jit_debug_descriptor.first_entry = entry;
		__jit_debug_descriptor.relevant_entry = entry;
		__jit_debug_descriptor.action_flag = 1;
		__jit_debug_register_code();
		CALL((run(code, n_objects > 1 ? 0.1 : seconds), 0));
		/* GDB does not miss what is gone as long as it is told. */
		__jit_debug_descriptor.first_entry = entry->next;
		if (entry->next)
			entry->next->prev = NULL;
		__jit_debug_descriptor.relevant_entry = entry;
		__jit_debug_descriptor.action_flag = 2;
		__jit_debug_register_code();
		memset(image, 0, bytes);
		free(image);
		free(entry);
	}
	return 0;
}
