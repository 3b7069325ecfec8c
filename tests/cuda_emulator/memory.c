/* The emulated driver's memory: host memory that ends where a page ends, with forbidden pages before and behind it, so
 * that a kernel that reads or writes past the end is caught (run_launch in work.c). */
#include <sys/mman.h>

#include "driver.h"

#define POISON 0xFF /* as float or double: not a number; as int: -1 */
#define PAGE 4096
#define ALIGNMENT 16

typedef struct Allocation {
  char *base, *start, *end; /* of the pages, forbidden ones included; of what was asked for; of that, rounded up */
  size_t size, whole;
  struct Allocation *next;
} Allocation;
static Allocation *allocations;
static size_t used;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
__thread int capturing;

CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t size) {
  NEEDS_CONTEXT;
  NOT_IN_CAPTURE;
  if (!size) return CUDA_ERROR_INVALID_VALUE;
  if (size > MEMORY || used + size > MEMORY) return CUDA_ERROR_OUT_OF_MEMORY;
  size_t inside = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, pages = (inside + PAGE - 1) / PAGE * PAGE;
  char *base = mmap(NULL, pages + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Allocation *allocation = malloc(sizeof *allocation);
  if (base == MAP_FAILED || mprotect(base + PAGE, pages, PROT_READ | PROT_WRITE)) return CUDA_ERROR_OUT_OF_MEMORY;
  memset(base + PAGE, POISON, pages);
  char *end = base + PAGE + pages;
  pthread_mutex_lock(&lock);
  *allocation = (Allocation){base, end - inside, end, size, pages + 2 * PAGE, allocations};
  allocations = allocation;
  used += size;
  pthread_mutex_unlock(&lock);
  *pointer = (CUdeviceptr)allocation->start;
  OK;
}

CUresult cuMemFree_v2(CUdeviceptr pointer) {
  CUresult result = CUDA_ERROR_INVALID_VALUE;
  pthread_mutex_lock(&lock);
  for (Allocation **link = &allocations; *link; link = &(*link)->next) {
    Allocation *found = *link;
    if (found->start != (char *)pointer) continue;
    *link = found->next;
    used -= found->size;
    munmap(found->base, found->whole);
    free(found);
    result = CUDA_SUCCESS;
    break;
  }
  pthread_mutex_unlock(&lock);
  return result;
}

int guards_intact(void) {
  for (Allocation *a = allocations; a; a = a->next)
    for (char *byte = a->start + a->size; byte < a->end; byte++)
      if ((unsigned char)*byte != POISON) {
        explain_address(byte);
        memset(a->start + a->size, POISON, a->end - a->start - a->size);
        return 0;
      }
  return 1;
}

void explain_address(const void *address) {
  const char *at = address;
  for (Allocation *a = allocations; a; a = a->next)
    if (at >= a->base && at < a->base + a->whole) {
      long distance = at < a->start ? a->start - at : at - a->start - (long)a->size + 1;
      fprintf(stderr, "emulated GPU: %ld bytes %s an allocation of %zu bytes\n", distance,
              at < a->start ? "before the start of" : "past the end of", a->size);
      return;
    }
  fprintf(stderr, "emulated GPU: the address %p lies in no allocation\n", address);
}

CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
  *total = MEMORY;
  *available = MEMORY - used;
  OK;
}
CUresult cuMemHostAlloc(void **pointer, size_t size, unsigned flags) {
  NOT_IN_CAPTURE;
  *pointer = aligned_alloc(4096, (size + 4095) & ~4095ull);
  return *pointer ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemFreeHost(void *pointer) {
  free(pointer);
  OK;
}
CUresult cuMemHostRegister_v2(void *pointer, size_t size, unsigned flags) { OK; }
CUresult cuMemHostUnregister(void *pointer) { OK; }
