/* What the driver (C) and the compiled kernels (C++) know of each other. */
#pragma once
#include <stddef.h>

typedef struct Launch {
  unsigned grid[3], block[3], shared; /* blocks, threads of a block, bytes of dynamic shared memory */
  const char *arguments;              /* packed as by cuLaunchKernel's buffer */
  size_t first_block;                 /* number of its first block among all of the process, at least 1 */
  const void **fault;                 /* receives the address that an error is about; NULL if there is none */
} Launch;

/* Device memory lies between fixed addresses, and what races.h remembers of each of its words in 4 times as much memory. */
#define EMU_ARENA ((char *)0x100000000000)
#define EMU_ARENA_SIZE (8ull << 40)
#define EMU_SHADOW ((char *)0x200000000000)
#define EMU_MOST_BLOCKS (1 << 20) /* the block numbers that fit there; they begin again when they are used up */

/* Each kernel NAME has two functions: NAME__launch runs all blocks and returns nonzero after an error that it has printed;
 * NAME__describe writes the arguments as text, numbers and addresses separated by commas. Each module has emu_source, the
 * source's file name followed by the compiler's options. */
typedef int (*Launcher)(const Launch *launch);
typedef void (*Describer)(const char *arguments, char *text, size_t size);
