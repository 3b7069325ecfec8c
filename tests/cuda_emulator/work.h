/* Work of the emulated device: copies, fills, launches and functions on the host; and the order of streams. */
#pragma once
#include "driver.h"

typedef struct Work {
  enum { COPY, SET8, SET32, LAUNCH, HOST, RECORD, WAIT } kind;
  enum { ON_HOST, TO_DEVICE, TO_HOST, ON_DEVICE } way; /* of a copy */
  void *target; /* of a function on the host: its argument; of a record: the event */
  const void *source;
  size_t size; /* for a launch: of the packed arguments */
  unsigned value;
  int replayed; /* as part of a graph */
  Launch launch;
  CUfunction kernel;
  CUhostFn function;
  CUstream other;     /* for a wait: where ... */
  size_t number;      /* ... so much work must be done; otherwise, the number of this work in its stream */
  void *owned;        /* freed with the work */
  struct Work *next;
} Work;

struct CUstream_st {
  struct CUgraph_st *graph; /* while it is captured */
  int launches;             /* whether kernels were launched in it */
  Work *first, **end;       /* queued and not done yet */
  size_t queued, done;      /* how much work it was given, and has done */
  struct CUstream_st *next;
};
struct CUevent_st {
  CUstream stream; /* where it was recorded; NULL: not at all, or in the default stream */
  size_t number;   /* how much work of the stream must be done */
  double time;     /* ms */
};
struct CUgraph_st {
  Work *first, **end;
};

#define IS_DEFAULT(stream) ((uintptr_t)(stream) <= 2)

/* Carries out or records work at its submission, or queues it (streams.c). */
CUresult submit(CUstream stream, Work work);
/* Carries out work now. */
CUresult run(const Work *work);
/* A copy with the arguments of a launch, or the host's data of a copy if `with_source`. */
Work *copy_of(const Work *work, int with_source);
void free_work(Work *work);
/* Does all that is queued, in every stream. */
CUresult drain_all(void);
/* Does what is queued up to the last work that uses this memory, which is about to be freed. */
CUresult drain_users(const void *start, size_t size);
/* Whether an address is in memory allocated by cuMemHostAlloc, or registered. */
int is_pinned(const void *address);
