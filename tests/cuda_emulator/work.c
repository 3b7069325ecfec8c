/* What the emulated device can be given to do, and how it is carried out. */
#include <setjmp.h>
#include <signal.h>

#include "work.h"

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
      if (work->way == ON_DEVICE && dry()) break;
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
      break;
    default: /* of streams.c */
      break;
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

static void record(const Work *work) {
  if (work->kind == LAUNCH)
    record_launch(work->kernel, &work->launch, work->replayed);
  else if (work->kind == HOST)
    record_other("host", 1, "calls", work->replayed);
  else
    record_other(work->kind == COPY ? "copy" : "fill", bytes_of(work), "bytes", work->replayed);
}

CUresult run(const Work *work) {
  struct sigaction guarded = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
  CUresult result;
  pthread_mutex_lock(&lock);
  record(work);
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

Work *copy_of(const Work *work, int with_source) {
  Work *copy = malloc(sizeof *copy);
  *copy = *work;
  copy->next = NULL;
  copy->owned = NULL;
  if (work->kind == LAUNCH)
    copy->launch.arguments = copy->owned = memcpy(malloc(work->size + 1), work->launch.arguments, work->size);
  if (with_source) copy->source = copy->owned = memcpy(malloc(work->size + 1), work->source, work->size);
  return copy;
}
void free_work(Work *work) {
  free(work->owned);
  free(work);
}

#define AT(pointer) ((void *)(pointer))
static CUresult copying(int way, void *target, const void *source, size_t size, CUstream stream) {
  return submit(stream, (Work){.kind = COPY, .way = way, .target = target, .source = source, .size = size});
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr d, const void *s, size_t n, CUstream q) {
  return copying(TO_DEVICE, AT(d), s, n, q);
}
CUresult cuMemcpyDtoHAsync_v2(void *d, CUdeviceptr s, size_t n, CUstream q) { return copying(TO_HOST, d, AT(s), n, q); }
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr d, CUdeviceptr s, size_t n, CUstream q) {
  return copying(ON_DEVICE, AT(d), AT(s), n, q);
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr d, const void *s, size_t n) { return cuMemcpyHtoDAsync_v2(d, s, n, NULL); }
CUresult cuMemcpyDtoH_v2(void *d, CUdeviceptr s, size_t n) { return cuMemcpyDtoHAsync_v2(d, s, n, NULL); }
CUresult cuMemcpyDtoD_v2(CUdeviceptr d, CUdeviceptr s, size_t n) { return cuMemcpyDtoDAsync_v2(d, s, n, NULL); }

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
