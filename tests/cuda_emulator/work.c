/* The emulated driver's work: copies, fills and launches, run at submission or recorded in a capture. */
#include <setjmp.h>
#include <signal.h>
#include <time.h>

#include "driver.h"

/* ---- work: run at submission, or recorded while its stream is captured ---- */

typedef struct Work {
  enum { COPY, SET8, SET32, LAUNCH, HOST } kind;
  void *target; /* for a function on the host: its argument */
  const void *source;
  size_t size; /* for a launch: of the packed arguments */
  unsigned value;
  int on_device; /* a copy between device addresses */
  Launch launch;
  CUfunction kernel;
  CUhostFn function;
  struct Work *next;
} Work;
struct CUgraph_st {
  Work *first, **end;
};
struct CUgraphExec_st {
  Work *first;
};
struct CUstream_st {
  struct CUgraph_st *graph;
};

int captures;

/* An access to an inaccessible page jumps back to here. */
static sigjmp_buf escape;
static pthread_t launching;
static void *volatile touched;
static struct sigaction ordinary;

static void on_fault(int number, siginfo_t *info, void *context) {
  if (!pthread_equal(pthread_self(), launching)) { /* not from emulated work: repeat it with the original handler */
    sigaction(SIGSEGV, &ordinary, NULL);
    return;
  }
  touched = info->si_addr;
  siglongjmp(escape, 1);
}

static int launch(const Work *work) {
  const void *fault = NULL;
  const unsigned *grid = work->launch.grid;
  Launch launch = work->launch;
  launch.first_block = number_blocks((size_t)grid[0] * grid[1] * grid[2]);
  launch.fault = &fault;
  int failed = work->kernel->launch(&launch);
  if (failed && fault) explain_address(fault);
  return !failed;
}

static CUresult carry_out(const Work *work) {
  switch (work->kind) {
    case COPY:
      if (work->on_device && dry()) break;
      memmove(work->target, work->source, work->size);
      break;
    case SET8:
      if (dry()) break;
      memset(work->target, work->value, work->size);
      break;
    case SET32:
      if (dry()) break;
      for (size_t i = 0; i < work->size; i++) ((unsigned *)work->target)[i] = work->value;
      break;
    case LAUNCH:
      if (dry()) break;
      if (!launch(work)) return CUDA_ERROR_LAUNCH_FAILED;
      if (!guards_intact()) return CUDA_ERROR_ILLEGAL_ADDRESS;
      break;
    case HOST:
      work->function(work->target);
  }
  return CUDA_SUCCESS;
}

static size_t bytes_of(const Work *work) { return work->kind == SET32 ? 4 * work->size : work->size; }

static void name(const Work *work) {
  if (work->kind == HOST)
    fprintf(stderr, "emulated GPU: in a function on the host\n");
  else if (work->kind != LAUNCH)
    fprintf(stderr, "emulated GPU: in a %s of %zu bytes\n", work->kind == COPY ? "copy" : "fill", bytes_of(work));
  else
    fprintf(stderr, "emulated GPU: in kernel %s of %s\n", work->kernel->name, work->kernel->source);
}

static void record(const Work *work, int replayed) {
  if (work->kind == LAUNCH)
    record_launch(work->kernel, &work->launch, replayed);
  else if (work->kind == HOST)
    record_other("host", 1, "calls", replayed);
  else
    record_other(work->kind == COPY ? "copy" : "fill", bytes_of(work), "bytes", replayed);
}

static CUresult run(const Work *work, int replayed) {
  struct sigaction guarded = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
  CUresult result;
  pthread_mutex_lock(&lock);
  record(work, replayed);
  launching = pthread_self();
  sigaction(SIGSEGV, &guarded, &ordinary);
  if (sigsetjmp(escape, 1)) {
    explain_address(touched);
    result = CUDA_ERROR_ILLEGAL_ADDRESS;
  } else {
    result = carry_out(work);
  }
  sigaction(SIGSEGV, &ordinary, NULL);
  pthread_mutex_unlock(&lock);
  if (result) name(work);
  return result;
}

static Work *copy_of(const Work *work) {
  Work *copy = malloc(sizeof *copy);
  *copy = *work;
  copy->next = NULL;
  if (work->kind == LAUNCH)
    copy->launch.arguments = memcpy(malloc(work->size + 1), work->launch.arguments, work->size);
  return copy;
}

static CUresult submit_from(CUstream stream, Work work, int replayed) {
  NEEDS_CONTEXT;
  if (!stream || (uintptr_t)stream <= 2) { /* the default stream synchronises with all others: forbidden in a capture */
    NOT_IN_ANY_CAPTURE;
    return run(&work, replayed);
  }
  if (!stream->graph) return run(&work, replayed);
  *stream->graph->end = copy_of(&work);
  stream->graph->end = &(*stream->graph->end)->next;
  OK;
}

static CUresult submit(CUstream stream, Work work) { return submit_from(stream, work, 0); }

static Work copying(void *target, const void *source, size_t size) {
  return (Work){.kind = COPY, .target = target, .source = source, .size = size};
}
#define AT(pointer) ((void *)(pointer))
CUresult cuMemcpyHtoD_v2(CUdeviceptr d, const void *s, size_t n) { return submit(NULL, copying(AT(d), s, n)); }
CUresult cuMemcpyDtoH_v2(void *d, CUdeviceptr s, size_t n) { return submit(NULL, copying(d, AT(s), n)); }
CUresult cuMemcpyDtoD_v2(CUdeviceptr d, CUdeviceptr s, size_t n) { return cuMemcpyDtoDAsync_v2(d, s, n, NULL); }
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr d, const void *s, size_t n, CUstream q) {
  return submit(q, copying(AT(d), s, n));
}
CUresult cuMemcpyDtoHAsync_v2(void *d, CUdeviceptr s, size_t n, CUstream q) { return submit(q, copying(d, AT(s), n)); }
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr d, CUdeviceptr s, size_t n, CUstream q) {
  Work work = copying(AT(d), AT(s), n);
  work.on_device = 1;
  return submit(q, work);
}

CUresult cuMemsetD8Async(CUdeviceptr d, unsigned char v, size_t n, CUstream q) {
  return submit(q, (Work){.kind = SET8, .target = AT(d), .value = v, .size = n});
}
CUresult cuMemsetD32Async(CUdeviceptr d, unsigned v, size_t n, CUstream q) {
  return submit(q, (Work){.kind = SET32, .target = AT(d), .value = v, .size = n});
}
CUresult cuMemsetD8_v2(CUdeviceptr d, unsigned char v, size_t n) { return cuMemsetD8Async(d, v, n, NULL); }
CUresult cuMemsetD32_v2(CUdeviceptr d, unsigned v, size_t n) { return cuMemsetD32Async(d, v, n, NULL); }

CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream stream, void **parameters, void **extra) {
  Work work = {.kind = LAUNCH, .kernel = f, .launch = {{gx, gy, gz}, {bx, by, bz}, shared}};
  const char *limit = getenv("EMU_GRID_LIMIT"); /* smaller than a device's, so that tests can exceed it */
  unsigned most = limit ? atoi(limit) : 65535;
  if (!extra || !gx || gx > 2147483647 || !gy || !gz || gy > most || gz > most) return CUDA_ERROR_INVALID_VALUE;
  if (!bx || !by || !bz || bx * by * bz > 1024 || bz > 64 || shared > 227 << 10) return CUDA_ERROR_INVALID_VALUE;
  for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
    if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) work.launch.arguments = extra[1];
    if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE) work.size = *(size_t *)extra[1];
  }
  return submit(stream, work);
}

/* As on a device: it runs when all work before it is done, and is recorded in graphs. */
CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data) {
  return submit(stream, (Work){.kind = HOST, .function = function, .target = data});
}

/* ---- streams and events ---- */

CUresult cuCtxSynchronize(void) {
  NOT_IN_ANY_CAPTURE;
  OK;
}
CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  *stream = calloc(1, sizeof **stream);
  OK;
}
CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority) {
  return cuStreamCreate(stream, flags);
}
CUresult cuStreamDestroy_v2(CUstream stream) {
  free(stream);
  OK;
}
CUresult cuStreamSynchronize(CUstream stream) {
  return stream && stream->graph ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}
CUresult cuStreamQuery(CUstream stream) { return cuStreamSynchronize(stream); }
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) { OK; }
CUresult cuEventCreate(CUevent *event, unsigned flags) {
  *event = calloc(1, sizeof(double));
  OK;
}
CUresult cuEventDestroy_v2(CUevent event) {
  free(event);
  OK;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  *(double *)event = now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
  OK;
}
CUresult cuEventSynchronize(CUevent event) {
  NOT_IN_CAPTURE;
  OK;
}
CUresult cuEventQuery(CUevent event) { OK; }
CUresult cuEventElapsedTime_v2(float *ms, CUevent start, CUevent end) {
  *ms = *(double *)end - *(double *)start;
  OK;
}

/* ---- graphs: a list of recorded work ---- */

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  if (!stream || (uintptr_t)stream <= 2 || stream->graph) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  stream->graph = calloc(1, sizeof *stream->graph);
  stream->graph->end = &stream->graph->first;
  capturing++;
  __sync_fetch_and_add(&captures, 1);
  OK;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  if (!stream || !stream->graph) return CUDA_ERROR_INVALID_VALUE;
  *graph = stream->graph;
  stream->graph = NULL;
  capturing--;
  __sync_fetch_and_sub(&captures, 1);
  OK;
}
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  *status = stream && stream->graph ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
  OK;
}
CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count) {
  size_t n = 0;
  for (Work *work = graph->first; work; work = work->next, n++)
    if (nodes && n < *count) nodes[n] = (CUgraphNode)work;
  *count = n;
  OK;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
  *exec = calloc(1, sizeof **exec);
  Work **end = &(*exec)->first;
  for (Work *work = graph->first; work; work = work->next, end = &(*end)->next) *end = copy_of(work);
  OK;
}
CUresult cuGraphUpload(CUgraphExec exec, CUstream stream) { OK; }
CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  CUresult result = CUDA_SUCCESS;
  size_t nodes = 0;
  for (Work *work = exec->first; work; work = work->next) nodes++;
  pthread_mutex_lock(&lock); /* a graph is one unit of work in its stream */
  record_other("graph", nodes, "nodes", 0);
  for (Work *work = exec->first; work && !result; work = work->next) result = submit_from(stream, *work, 1);
  pthread_mutex_unlock(&lock);
  return result;
}
static void free_all(Work *work) {
  while (work) {
    Work *next = work->next;
    if (work->kind == LAUNCH) free((void *)work->launch.arguments);
    free(work);
    work = next;
  }
}
CUresult cuGraphDestroy(CUgraph graph) {
  free_all(graph->first);
  free(graph);
  OK;
}
CUresult cuGraphExecDestroy(CUgraphExec exec) {
  free_all(exec->first);
  free(exec);
  OK;
}
