/* A CUDA driver (libcuda.so.1) for machines without a GPU.
 *
 * Device memory is host memory; a "cubin" is an x86-64 shared library built by compiler.py, in which each kernel is a
 * function NAME__launch that runs every block of the grid on the CPU (emulated_cuda.h). Work runs when it is submitted,
 * or as late as the order of streams allows (streams.c); work of several threads is serialised. Three checks
 * are stricter than on a real device, to find errors: new memory contains nan, accesses past the end of an allocation,
 * or after it was freed, fail (memory.c), and operations that CUDA forbids while a stream is captured are refused
 * (work.c). Functions that are not emulated are listed in unsupported.txt and return CUDA_ERROR_NOT_SUPPORTED.
 */
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include "driver.h"

/* ---- errors ---- */

static const struct {
  CUresult code;
  const char *name, *text;
} errors[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "no context is current in this thread"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "the module was not made by the emulator's compiler"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "the module cannot be loaded"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "memory that is not allocated was read or written"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported by the emulated driver"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "not permitted when stream is capturing"},
};

static int find_error(CUresult code) {
  for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
    if (errors[i].code == code) return i;
  return -1;
}
CUresult cuGetErrorString(CUresult code, const char **text) {
  int i = find_error(code);
  *text = i < 0 ? "unknown error" : errors[i].text;
  OK;
}
CUresult cuGetErrorName(CUresult code, const char **name) {
  int i = find_error(code);
  *name = i < 0 ? "CUDA_ERROR_UNKNOWN" : errors[i].name;
  OK;
}

/* NVIDIA's cuda-bindings looks up every function through this one, and expects the newest version (_v2, _v3, ...). */
CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *status) {
  static const char *suffixes[] = {"_v4", "_v3", "_v2", ""};
  char name[256];
  if (!strcmp(symbol, "cuGraphInstantiate")) symbol = "cuGraphInstantiateWithFlags";
  *function = NULL;
  for (int i = 0; i < 4 && !*function; i++) {
    snprintf(name, sizeof name, "%s%s", symbol, suffixes[i]);
    *function = dlsym(RTLD_DEFAULT, name);
  }
  if (!*function) { /* cuda-bindings opens the driver with RTLD_LOCAL, so search this library explicitly, too */
    static void *self;
    if (!self) {
      Dl_info info;
      dladdr((void *)cuGetProcAddress_v2, &info);
      self = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    }
    for (int i = 0; i < 4 && !*function; i++) {
      snprintf(name, sizeof name, "%s%s", symbol, suffixes[i]);
      *function = dlsym(self, name);
    }
  }
  if (status) *status = *function ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

/* ---- contexts: there is one, with a stack of current contexts per thread ---- */

static char primary;
static __thread CUcontext current[64];
__thread int depth;

CUresult cuCtxCreate_v4(CUcontext *context, CUctxCreateParams *params, unsigned flags, CUdevice device) {
  current[depth++] = *context = (CUcontext)&primary;
  OK;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  *context = (CUcontext)&primary;
  OK;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) { OK; }
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  *flags = 0;
  *active = 1;
  OK;
}
CUresult cuCtxPushCurrent_v2(CUcontext context) {
  if (depth == 64) return CUDA_ERROR_INVALID_VALUE;
  current[depth++] = context;
  OK;
}
CUresult cuCtxPopCurrent_v2(CUcontext *context) {
  if (!depth) return CUDA_ERROR_INVALID_CONTEXT;
  --depth;
  if (context) *context = current[depth];
  OK;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
  *context = depth ? current[depth - 1] : NULL;
  OK;
}
CUresult cuCtxSetCurrent(CUcontext context) {
  if (!depth) depth = 1;
  current[depth - 1] = context;
  OK;
}
CUresult cuCtxDetach(CUcontext context) {
  if (depth) depth--;
  OK;
}
CUresult cuCtxDestroy_v2(CUcontext context) { OK; }
CUresult cuCtxGetDevice(CUdevice *device) {
  *device = 0;
  return depth ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}
CUresult cuCtxGetApiVersion(CUcontext context, unsigned *version) {
  *version = CUDA_VERSION;
  OK;
}
CUresult cuCtxGetLimit(size_t *value, CUlimit limit) {
  *value = 0;
  OK;
}

/* ---- modules ---- */

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  NEEDS_CONTEXT;
  const Elf64_Ehdr *header = image;
  if (memcmp(header->e_ident, ELFMAG, 4) || header->e_machine != EM_X86_64) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  size_t size = header->e_shoff + header->e_shnum * header->e_shentsize; /* the section table is last in the file */
  int file = memfd_create("module", 0); /* stays open: dlopen identifies libraries by path */
  if (file < 0 || write(file, image, size) != (ssize_t)size) return CUDA_ERROR_OUT_OF_MEMORY;
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!*module) fprintf(stderr, "emulated GPU: %s\n", dlerror());
  return *module ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}
CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned n, CUjit_option *options, void **values) {
  for (unsigned i = 0; i < n; i++) /* no compiler messages to give back */
    if (options[i] == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES || options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
      values[i] = 0;
  return cuModuleLoadData(module, image);
}
CUresult cuModuleUnload(CUmodule module) {
  dlclose(module);
  OK;
}
/* Functions are kept until the process ends: there are few, and PyCUDA uses them after their module is unloaded. */
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  char symbol[512];
  struct CUfunc_st *found = calloc(1, sizeof *found + strlen(name) + 1);
  snprintf(symbol, sizeof symbol, "%s__launch", name);
  found->launch = (Launcher)dlsym(module, symbol);
  snprintf(symbol, sizeof symbol, "%s__describe", name);
  found->describe = (Describer)dlsym(module, symbol);
  found->source = dlsym(module, "emu_source");
  strcpy(found->name, name);
  *function = found;
  return found->launch ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
CUresult cuModuleGetGlobal_v2(CUdeviceptr *pointer, size_t *size, CUmodule module, const char *name) {
  *pointer = (CUdeviceptr)dlsym(module, name);
  return *pointer ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
CUresult cuFuncSetBlockShape(CUfunction function, int x, int y, int z) { OK; }
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) { OK; }
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
  *value = 0;
  OK;
}
