// Index and alignment faults: -fsanitize=bounds-strict,alignment calls these functions, which end the launch.
#pragma once
#include "fibers.h"

namespace emu {

struct SourcePlace {  // as GCC lays it out
  const char *file;
  unsigned line, column;
};
struct TypeName {
  unsigned short kind, info;
  char name[];
};
struct OutOfBounds {
  SourcePlace place;
  const TypeName *array, *index;
};
struct TypeMismatch {
  SourcePlace place;
  const TypeName *type;
  unsigned char log_alignment, kind;
};

EMU_UNSEEN inline void report(const SourcePlace &at, const char *what) {
  static char message[512];
  const uint3 &t = thread_index;
  snprintf(message, sizeof message, "thread (%u, %u, %u), %s:%u:%u: %s", t.x, t.y, t.z, at.file, at.line, at.column, what);
  require(false, message);
}

}  // namespace emu

#define EMU_HANDLER extern "C" __attribute__((visibility("hidden"), used)) EMU_UNSEEN
EMU_HANDLER void __ubsan_handle_out_of_bounds(emu::OutOfBounds *data, size_t index) {
  char what[256];
  snprintf(what, sizeof what, "index %ld of an array of type %s", (long)index, data->array->name);
  emu::report(data->place, what);
}
EMU_HANDLER void __ubsan_handle_type_mismatch_v1(emu::TypeMismatch *data, size_t address) {
  char what[256];
  emu::fault = (const void *)address;
  snprintf(what, sizeof what, "the address %#zx of a %s is not a multiple of %d", address, data->type->name,
           1 << data->log_alignment);
  emu::report(data->place, what);
}
