/* A stand-in for NVIDIA's libnccl.so.2 on the emulated driver: processes of one machine, through shared memory.
 *
 * An operation is a function on the host in its stream (cuLaunchHostFunc), so it is recorded in graphs. It blocks until
 * all ranks have come to it. Sums are added in the order of the ranks; an average is the sum times 1 / ranks.
 *
 * What leads to wrong numbers or to a hang with NCCL is an error here, the same at all ranks: operations that differ in
 * kind, count, type, operator or root, and operations that only some ranks have captured. As with NCCL, such an error is
 * found by ncclCommGetAsyncError; so is the end of a rank's process, and ncclCommAbort of another rank. While an operation
 * is captured, all ranks must capture it: NCCL may exchange addresses there.
 */
#include <cuda.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define RANKS 64
#define PART (1 << 18) /* bytes of each rank that are exchanged at a time */

typedef enum { SUCCESS, CUDA_FAILED, SYSTEM, INTERNAL, ARGUMENT, USAGE, REMOTE } Result; /* ncclResult_t */
enum { FLOAT32 = 7, FLOAT64 = 8 };                                                       /* ncclDataType_t */
enum { SUM = 0, AVERAGE = 4 };                                                           /* ncclRedOp_t */

typedef struct {
  char name[128];
} UniqueId;

typedef struct {
  enum { ALL_REDUCE, BROADCAST } kind;
  size_t count;
  int type, op, root, captured;
} Operation;

typedef struct { /* in shared memory */
  atomic_int attached, arrived, aborted;
  atomic_uint generation;
  pid_t processes[RANKS];
  Operation operations[RANKS];
  char parts[][PART];
} Shared;

typedef struct {
  Shared *shared;
  size_t size;
  int rank, ranks;
  atomic_int error, busy;
} Communicator;

typedef struct { /* kept for as long as the process lives: graphs refer to it */
  Communicator *communicator;
  const void *source;
  void *target;
  Operation operation;
} Call;

static __thread char last_error[256];

static Result fail(Communicator *c, Result result, const char *text) {
  snprintf(last_error, sizeof last_error, "%s", text);
  if (c) atomic_store(&c->error, result);
  return result;
}

/* ---- waiting for the other ranks ---- */

static int has_ended(pid_t process) {
  char path[64], state = 'Z';
  if (kill(process, 0) && errno == ESRCH) return 1;
  snprintf(path, sizeof path, "/proc/%d/stat", (int)process);
  FILE *file = fopen(path, "r");
  if (!file) return 1;
  fscanf(file, "%*d (%*[^)]) %c", &state);
  fclose(file);
  return state == 'Z' || state == 'X';
}

static int a_rank_has_ended(const Communicator *c) {
  for (int rank = 0; rank < c->ranks; rank++)
    if (c->shared->processes[rank] && has_ended(c->shared->processes[rank])) return 1;
  return 0;
}

/* Wait until all ranks have called this. */
static Result meet(Communicator *c) {
  Shared *s = c->shared;
  unsigned generation = atomic_load(&s->generation);
  if (atomic_fetch_add(&s->arrived, 1) + 1 == c->ranks) {
    atomic_store(&s->arrived, 0);
    atomic_fetch_add(&s->generation, 1);
    return SUCCESS;
  }
  for (unsigned turn = 1; atomic_load(&s->generation) == generation; turn++) {
    if (atomic_load(&s->aborted)) return fail(c, REMOTE, "a rank has aborted the communicator");
    if (turn % 1024 == 0 && a_rank_has_ended(c)) return fail(c, REMOTE, "the process of a rank has ended");
    if (turn < 256)
      sched_yield();
    else
      nanosleep(&(struct timespec){0, 50000}, NULL);
  }
  return SUCCESS;
}

static int same(const Operation *a, const Operation *b) {
  return a->kind == b->kind && a->count == b->count && a->type == b->type && a->op == b->op && a->root == b->root &&
         a->captured == b->captured;
}

/* Wait until all ranks are at an operation; an error if they are at different ones. */
static Result agree(Communicator *c, const Operation *own) {
  Shared *s = c->shared;
  char text[200];
  int other = 0;
  s->operations[c->rank] = *own;
  if (meet(c)) return REMOTE;
  while (other < c->ranks && same(&s->operations[0], &s->operations[other])) other++;
  if (other < c->ranks) {
    const Operation *a = &s->operations[0], *b = &s->operations[other];
    snprintf(text, sizeof text, "ranks 0 and %d call different operations: of %zu and %zu numbers, %scaptured and %scaptured",
             other, a->count, b->count, a->captured ? "" : "not ", b->captured ? "" : "not ");
  }
  if (meet(c)) return REMOTE; /* so that `operations` can be written again */
  return other < c->ranks ? fail(c, USAGE, text) : SUCCESS;
}

/* ---- operations ---- */

#define ADD(Number)                                                                    \
  static void add_##Number(const Communicator *c, Number *out, size_t n, Number factor) { \
    for (size_t i = 0; i < n; i++) {                                                   \
      Number sum = ((const Number *)c->shared->parts[0])[i];                           \
      for (int rank = 1; rank < c->ranks; rank++) sum += ((const Number *)c->shared->parts[rank])[i]; \
      out[i] = sum * factor;                                                           \
    }                                                                                  \
  }
ADD(float)
ADD(double)

static void combine(const Communicator *c, const Operation *o, void *out, size_t bytes) {
  double factor = o->op == AVERAGE ? 1.0 / c->ranks : 1;
  if (o->kind == BROADCAST)
    memcpy(out, c->shared->parts[o->root], bytes);
  else if (o->type == FLOAT32)
    add_float(c, out, bytes / 4, factor);
  else
    add_double(c, out, bytes / 8, factor);
}

static void carry_out(Communicator *c, const Call *call) {
  const Operation *o = &call->operation;
  size_t size = o->count * (o->type == FLOAT32 ? 4 : 8);
  if (agree(c, o)) return;
  for (size_t start = 0; start < size; start += PART) {
    size_t bytes = size - start < PART ? size - start : PART;
    memcpy(c->shared->parts[c->rank], (const char *)call->source + start, bytes);
    if (meet(c)) return;
    combine(c, o, (char *)call->target + start, bytes);
    if (meet(c)) return;
  }
}

static void run(void *data) {
  const Call *call = data;
  Communicator *c = call->communicator;
  atomic_store(&c->busy, 1);
  if (!atomic_load(&c->error)) carry_out(c, call);
  atomic_store(&c->busy, 0);
}

static Result enqueue(Communicator *c, const void *source, void *target, Operation operation, CUstream stream) {
  if (!c || !source || !target) return fail(NULL, ARGUMENT, "a pointer is NULL");
  if (operation.type != FLOAT32 && operation.type != FLOAT64) return fail(NULL, ARGUMENT, "the type is not emulated");
  if (operation.op != SUM && operation.op != AVERAGE) return fail(NULL, ARGUMENT, "the operator is not emulated");
  if (operation.root < 0 || operation.root >= c->ranks) return fail(NULL, ARGUMENT, "there is no such root");
  if (atomic_load(&c->error)) return atomic_load(&c->error);
  CUstreamCaptureStatus status;
  cuStreamIsCapturing(stream, &status);
  operation.captured = status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
  atomic_store(&c->busy, 1);
  Result agreed = operation.captured ? agree(c, &operation) : SUCCESS;
  atomic_store(&c->busy, 0);
  if (agreed) return agreed;
  Call *call = malloc(sizeof *call);
  *call = (Call){c, source, target, operation};
  return cuLaunchHostFunc(stream, run, call) ? fail(NULL, CUDA_FAILED, "the stream does not take work") : SUCCESS;
}

Result ncclAllReduce(const void *source, void *target, size_t count, int type, int op, Communicator *c, CUstream stream) {
  return enqueue(c, source, target, (Operation){ALL_REDUCE, count, type, op}, stream);
}
Result ncclBroadcast(const void *source, void *target, size_t count, int type, int root, Communicator *c,
                     CUstream stream) {
  return enqueue(c, source, target, (Operation){BROADCAST, count, type, SUM, root}, stream);
}

/* ---- communicators ---- */

Result ncclGetVersion(int *version) {
  const char *other = getenv("EMU_NCCL_VERSION"); /* for tests of old versions */
  *version = other ? atoi(other) : 23203;
  return SUCCESS;
}
const char *ncclGetErrorString(Result result) {
  static const char *texts[] = {"no error",       "unhandled cuda error", "unhandled system error", "internal error",
                                "invalid argument", "invalid usage",      "remote process exited or there was a network error"};
  return result <= REMOTE ? texts[result] : "unknown result code";
}
const char *ncclGetLastError(Communicator *c) { return last_error; }

Result ncclGetUniqueId(UniqueId *id) {
  static atomic_int number;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  memset(id, 0, sizeof *id);
  snprintf(id->name, sizeof id->name, "/emulated-nccl-%d-%d-%lld", (int)getpid(), atomic_fetch_add(&number, 1),
           (long long)now.tv_sec * 1000000000 + now.tv_nsec);
  return SUCCESS;
}

Result ncclCommInitRank(Communicator **result, int ranks, UniqueId id, int rank) {
  if (ranks < 1 || ranks > RANKS || rank < 0 || rank >= ranks) return fail(NULL, ARGUMENT, "there is no such rank");
  size_t size = sizeof(Shared) + (size_t)ranks * PART;
  int file = shm_open(id.name, O_CREAT | O_RDWR, 0600);
  if (file < 0 || ftruncate(file, size)) return fail(NULL, SYSTEM, "there is no shared memory");
  Shared *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (shared == MAP_FAILED) return fail(NULL, SYSTEM, "there is no shared memory");
  Communicator *c = calloc(1, sizeof *c);
  *c = (Communicator){.shared = shared, .size = size, .rank = rank, .ranks = ranks};
  shared->processes[rank] = getpid();
  if (atomic_fetch_add(&shared->attached, 1) + 1 == ranks) shm_unlink(id.name); /* nothing is left after a kill */
  if (meet(c)) {
    shm_unlink(id.name);
    return REMOTE;
  }
  *result = c;
  return SUCCESS;
}

Result ncclCommGetAsyncError(Communicator *c, Result *error) {
  *error = atomic_load(&c->error);
  return SUCCESS;
}

/* Operations of this rank that wait for others return; later ones do nothing. Those of the others fail. */
Result ncclCommAbort(Communicator *c) {
  fail(c, REMOTE, "the communicator was aborted");
  atomic_store(&c->shared->aborted, 1);
  while (atomic_load(&c->busy)) sched_yield();
  munmap(c->shared, c->size);
  return SUCCESS;
}
