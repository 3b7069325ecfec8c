/* The emulated device: one or several like an H100, with fewer multiprocessors. */
#include "driver.h"

CUresult cuInit(unsigned flags) { OK; }
CUresult cuDriverGetVersion(int *version) {
  const char *number = getenv("EMU_DRIVER_VERSION"); /* 12040 is that of a driver made for CUDA 12.4 */
  *version = number ? atoi(number) : CUDA_VERSION;
  OK;
}
CUresult cuDeviceGetCount(int *count) {
  const char *number = getenv("EMU_DEVICES"); /* more than one: for processes that use one each */
  *count = number ? atoi(number) : 1;
  OK;
}
CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  int count;
  cuDeviceGetCount(&count);
  *device = ordinal;
  return ordinal >= 0 && ordinal < count ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
  snprintf(name, size, "emulated GPU");
  OK;
}
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  *bytes = MEMORY;
  OK;
}
CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
  *major = 9;
  *minor = 0;
  OK;
}
CUresult cuDeviceGetPCIBusId(char *id, int size, CUdevice device) {
  snprintf(id, size, "0000:%02x:00.0", device);
  OK;
}

/* MINICAFFE_EMULATED_SMS=132: as many multiprocessors as an H100, which changes how work is divided; default 2. */
static int multiprocessors(void) {
  const char *number = getenv("MINICAFFE_EMULATED_SMS");
  return number && atoi(number) > 0 ? atoi(number) : 2;
}

#define ATTRIBUTE(name, number) {CU_DEVICE_ATTRIBUTE_##name, number}
static const struct {
  CUdevice_attribute attribute;
  int value;
} attributes[] = {
    ATTRIBUTE(MAX_THREADS_PER_BLOCK, 1024),
    ATTRIBUTE(MAX_BLOCK_DIM_X, 1024),
    ATTRIBUTE(MAX_BLOCK_DIM_Y, 1024),
    ATTRIBUTE(MAX_BLOCK_DIM_Z, 64),
    ATTRIBUTE(MAX_GRID_DIM_X, 2147483647),
    ATTRIBUTE(MAX_GRID_DIM_Y, 65535),
    ATTRIBUTE(MAX_GRID_DIM_Z, 65535),
    ATTRIBUTE(WARP_SIZE, 32),
    ATTRIBUTE(COMPUTE_CAPABILITY_MAJOR, 9),
    ATTRIBUTE(COMPUTE_CAPABILITY_MINOR, 0),
    ATTRIBUTE(MAX_SHARED_MEMORY_PER_BLOCK, 48 << 10),
    ATTRIBUTE(MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 227 << 10),
    ATTRIBUTE(MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 228 << 10),
    ATTRIBUTE(RESERVED_SHARED_MEMORY_PER_BLOCK, 1 << 10),
    ATTRIBUTE(MAX_REGISTERS_PER_BLOCK, 65536),
    ATTRIBUTE(MAX_REGISTERS_PER_MULTIPROCESSOR, 65536),
    ATTRIBUTE(MAX_THREADS_PER_MULTIPROCESSOR, 2048),
    ATTRIBUTE(MAX_BLOCKS_PER_MULTIPROCESSOR, 32),
    ATTRIBUTE(TOTAL_CONSTANT_MEMORY, 64 << 10),
    ATTRIBUTE(L2_CACHE_SIZE, 50 << 20),
    ATTRIBUTE(CLOCK_RATE, 1000000),
};

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  *value = attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT ? multiprocessors() : 0;
  for (unsigned i = 0; i < sizeof attributes / sizeof *attributes; i++)
    if (attributes[i].attribute == attribute) *value = attributes[i].value;
  OK;
}
