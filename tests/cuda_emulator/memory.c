/* The emulated driver's memory, at fixed addresses (launch.h): each allocation ends at the end of a page, with inaccessible guard pages before and
 * after it, so that reads and writes past the end are detected (run in work.c). Freed addresses stay inaccessible and
 * are never used again. A pool makes its free buffers inaccessible with emuMemHide, and accessible with emuMemShow. */
#include <sys/mman.h>

#include "work.h"

#define POISON 0xFF /* as float or double: not a number; as int: -1 */
#define PAGE 4096
#define ALIGNMENT 16

typedef struct Allocation {
  char *base, *start, *end; /* start of the pages with guards; start and rounded-up end of the requested memory */
  size_t size, whole;
  int hidden;
  struct Allocation *next;
} Allocation;
static Allocation *allocations, *freed;
static size_t used;
pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
__thread int capturing;

/* Inaccessible pages at addresses that were never used before; NULL when there are no more. */
static char *new_pages(size_t size) {
  static char *next;
  pthread_mutex_lock(&lock);
  if (!next) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    next = mmap(EMU_ARENA, EMU_ARENA_SIZE, PROT_NONE, flags, -1, 0);
    if (next != EMU_ARENA) perror("emulated GPU: addresses of device memory"), abort();
  }
  char *pages = size <= EMU_ARENA + EMU_ARENA_SIZE - next ? next : NULL;
  if (pages) next += size;
  pthread_mutex_unlock(&lock);
  return pages;
}

size_t number_blocks(size_t count) {
  static size_t next;
  if (!next || next + count > EMU_MOST_BLOCKS) { /* begin again, with everything forgotten */
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    if (mmap(EMU_SHADOW, 4 * EMU_ARENA_SIZE, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
      perror("emulated GPU: memory for races"), abort();
    next = 1;
  }
  next += count;
  return next - count;
}

CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t size) {
  NEEDS_CONTEXT;
  NOT_IN_CAPTURE;
  if (!size) return CUDA_ERROR_INVALID_VALUE;
  if (size > MEMORY || used + size > MEMORY) return CUDA_ERROR_OUT_OF_MEMORY;
  size_t inside = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, pages = (inside + PAGE - 1) / PAGE * PAGE;
  char *base = new_pages(pages + 2 * PAGE);
  if (!base || mprotect(base + PAGE, pages, PROT_READ | PROT_WRITE)) return CUDA_ERROR_OUT_OF_MEMORY;
  Allocation *allocation = malloc(sizeof *allocation);
  if (!dry()) memset(base + PAGE, POISON, pages);
  char *end = base + PAGE + pages;
  pthread_mutex_lock(&lock);
  *allocation = (Allocation){base, end - inside, end, size, pages + 2 * PAGE, 0, allocations};
  allocations = allocation;
  used += size;
  pthread_mutex_unlock(&lock);
  *pointer = (CUdeviceptr)allocation->start;
  OK;
}

/* The link to the allocation that starts at an address; NULL if there is none. The caller holds the lock. */
static Allocation **find(CUdeviceptr pointer) {
  for (Allocation **link = &allocations; *link; link = &(*link)->next)
    if ((*link)->start == (char *)pointer) return link;
  return NULL;
}

CUresult cuMemFree_v2(CUdeviceptr pointer) {
  NOT_IN_CAPTURE;
  pthread_mutex_lock(&lock);
  Allocation **link = find(pointer), *found = link ? *link : NULL;
  CUresult result = found ? drain_users(found->start, found->size) : CUDA_ERROR_INVALID_VALUE;
  if (found) {
    *link = found->next;
    used -= found->size;
    mmap(found->base, found->whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    madvise(EMU_SHADOW + 4 * (found->base - EMU_ARENA), 4 * found->whole, MADV_DONTNEED);
    found->next = freed;
    freed = found;
  }
  pthread_mutex_unlock(&lock);
  return result;
}

static CUresult hide(CUdeviceptr pointer, int hidden) {
  pthread_mutex_lock(&lock);
  Allocation **link = find(pointer), *found = link ? *link : NULL;
  if (found) {
    char *pages = found->base + PAGE;
    size_t size = found->whole - 2 * PAGE;
    mprotect(pages, size, hidden ? PROT_NONE : PROT_READ | PROT_WRITE);
    if (!hidden && !dry()) memset(pages, POISON, size);
    found->hidden = hidden;
  }
  pthread_mutex_unlock(&lock);
  return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
/* Not part of CUDA: make an allocation inaccessible, as if freed; and accessible again, with undefined contents. */
CUresult emuMemHide(CUdeviceptr pointer) { return hide(pointer, 1); }
CUresult emuMemShow(CUdeviceptr pointer) { return hide(pointer, 0); }

int guards_intact(void) {
  for (Allocation *a = allocations; a; a = a->next)
    for (char *byte = a->start + a->size; byte < a->end && !a->hidden; byte++)
      if ((unsigned char)*byte != POISON) {
        explain_address(byte);
        memset(a->start + a->size, POISON, a->end - a->start - a->size);
        return 0;
      }
  return 1;
}

static Allocation *around(Allocation *list, const char *address) {
  while (list && (address < list->base || address >= list->base + list->whole)) list = list->next;
  return list;
}

void explain_address(const void *address) {
  const char *at = address;
  const Allocation *live = around(allocations, at), *a = live ? live : around(freed, at);
  if (!a) {
    fprintf(stderr, "emulated GPU: the address %p is in no allocation\n", address);
  } else if (at < a->start || at >= a->start + a->size) {
    long distance = at < a->start ? a->start - at : at - a->start - (long)a->size + 1;
    fprintf(stderr, "emulated GPU: %ld bytes %s an allocation of %zu bytes\n", distance,
            at < a->start ? "before the start of" : "past the end of", a->size);
  } else {
    const char *state = !live ? " that was freed before" : live->hidden ? " that was given back to a pool before" : "";
    fprintf(stderr, "emulated GPU: byte %ld of an allocation of %zu bytes%s\n", (long)(at - a->start), a->size, state);
  }
}

CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
  *total = MEMORY;
  *available = MEMORY - used;
  OK;
}
/* ---- the host's memory: pinned memory is used by copies while they run (streams.c) ---- */

typedef struct Pinned {
  char *start;
  size_t size;
  struct Pinned *next;
} Pinned;
static Pinned *pinned;

static CUresult pin(void *start, size_t size) {
  Pinned *added = malloc(sizeof *added);
  pthread_mutex_lock(&lock);
  *added = (Pinned){start, size, pinned};
  pinned = added;
  pthread_mutex_unlock(&lock);
  OK;
}
static CUresult unpin(void *start) {
  NOT_IN_CAPTURE;
  pthread_mutex_lock(&lock);
  Pinned **link = &pinned;
  while (*link && (*link)->start != start) link = &(*link)->next;
  Pinned *found = *link;
  CUresult result = found ? drain_users(start, found->size) : CUDA_ERROR_INVALID_VALUE;
  if (found) *link = found->next;
  pthread_mutex_unlock(&lock);
  free(found);
  return result;
}
int is_pinned(const void *address) {
  int found = 0;
  pthread_mutex_lock(&lock);
  for (Pinned *p = pinned; p && !found; p = p->next)
    found = (char *)address >= p->start && (char *)address < p->start + p->size;
  pthread_mutex_unlock(&lock);
  return found;
}

CUresult cuMemHostAlloc(void **pointer, size_t size, unsigned flags) {
  NOT_IN_CAPTURE;
  *pointer = aligned_alloc(4096, (size + 4095) & ~4095ull);
  return *pointer ? pin(*pointer, size) : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemFreeHost(void *pointer) {
  CUresult result = unpin(pointer);
  if (result != CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED) free(pointer);
  return result;
}
CUresult cuMemHostRegister_v2(void *pointer, size_t size, unsigned flags) { return pin(pointer, size); }
CUresult cuMemHostUnregister(void *pointer) { return unpin(pointer); }
