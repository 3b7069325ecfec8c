/* Declarations shared by the parts of the emulated driver. */
#pragma once
#include <cuda.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch.h"

#define OK return CUDA_SUCCESS
#define NEEDS_CONTEXT \
  if (!depth) return CUDA_ERROR_INVALID_CONTEXT
#define NOT_IN_CAPTURE \
  if (capturing) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
#define NOT_IN_ANY_CAPTURE \
  if (captures) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED

extern __thread int depth;     /* number of contexts on this thread's stack */
extern __thread int capturing; /* number of streams that this thread is capturing */
extern int captures;           /* number of streams that all threads are capturing */
extern pthread_mutex_t lock;   /* guards the lists of allocations, and serialises work; recursive */

/* Bytes of device memory: those of this machine, or as many as on a large device if nothing is computed. */
#define MEMORY (dry() ? 80ull << 30 : 8ull << 30)

struct CUfunc_st {
  Launcher launch;
  Describer describe;
  const char *source; /* emu_source of its module */
  char name[];
};

/* Recording of work (record.c). */
int dry(void); /* whether kernels are only recorded */
void record_launch(const struct CUfunc_st *function, const Launch *launch, int replayed);
void record_other(const char *what, size_t amount, const char *unit, int replayed);

/* Whether no allocation has been written past its end; reports one on stderr. The caller holds the lock. */
int guards_intact(void);

/* The number of the first of a launch's blocks (launch.h). The caller holds the lock. */
size_t number_blocks(size_t count);

/* Prints on stderr the allocation that contains an address or is nearest to it. */
void explain_address(const void *address);
