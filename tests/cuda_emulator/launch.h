/* What the driver (C) and the compiled kernels (C++) know of each other. */
#pragma once
#include <stddef.h>

typedef struct Launch {
  unsigned grid[3], block[3], shared; /* blocks, threads of a block, bytes of dynamic shared memory */
  const char *arguments;              /* packed as by cuLaunchKernel's buffer */
} Launch;

/* Each kernel NAME has two functions: NAME__launch runs all blocks and returns nonzero after an error that it has printed;
 * NAME__describe writes the arguments as text, numbers and addresses separated by commas. Each module has emu_source, the
 * source's file name followed by the compiler's options. */
typedef int (*Launcher)(const Launch *launch);
typedef void (*Describer)(const char *arguments, char *text, size_t size);
