/* What the parts of the emulated driver share. */
#pragma once
#include <cuda.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK return CUDA_SUCCESS
#define NEEDS_CONTEXT \
  if (!depth) return CUDA_ERROR_INVALID_CONTEXT
#define NOT_IN_CAPTURE \
  if (capturing) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
#define NOT_IN_ANY_CAPTURE \
  if (captures) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED

extern __thread int depth;     /* how many contexts this thread has on its stack */
extern __thread int capturing; /* how many streams this thread has in capture */
extern int captures;           /* how many streams all threads have in capture */
extern pthread_mutex_t lock;   /* over the lists of allocations and over work: one thread's at a time; recursive */

#define MEMORY (8ull << 30) /* of the device */

/* Whether no allocation has been written past its end; reports one that has. Called with the lock held. */
int guards_intact(void);

/* Report on stderr which allocation an address is near. */
void explain_address(const void *address);
