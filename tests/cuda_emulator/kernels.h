// A kernel's functions for the driver (launch.h), made from its C++ function.
#pragma once
#include <string>
#include <tuple>
#include <type_traits>

#include "blocks.h"

namespace emu {

// The arguments of a kernel, from cuLaunchKernel's buffer.
template <class... A>
std::tuple<A...> unpacked(void (*)(A...), const char *buffer) {
  size_t offset = 0;
  std::tuple<A...> arguments;
  auto take = [&](auto &a) {
    size_t alignment = alignof(std::decay_t<decltype(a)>);
    offset = (offset + alignment - 1) / alignment * alignment;
    memcpy((void *)&a, buffer + offset, sizeof a);
    offset += sizeof a;
  };
  std::apply([&](auto &...a) { (take(a), ...); }, arguments);
  return arguments;
}

template <class T>
std::string described(const T &value) {
  char text[64] = "null";
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isfinite(value)) snprintf(text, sizeof text, "%.9g", double(value));
  } else if constexpr (std::is_integral_v<T>) {
    return std::to_string(value);
  } else if constexpr (std::is_pointer_v<T>) {
    snprintf(text, sizeof text, "\"%p\"", (const void *)value);
  }
  return text;
}
template <class... A>
void describe(void (*kernel)(A...), const char *buffer, char *text, size_t size) {
  std::string all;
  auto add = [&](const auto &a) { all += (all.empty() ? "" : ", ") + described(a); };
  std::apply([&](const auto &...a) { (add(a), ...); }, unpacked(kernel, buffer));
  snprintf(text, size, "%s", all.c_str());
}
template <class... A>
int launch_packed(void (*kernel)(A...), const Launch &l) {
  auto arguments = unpacked(kernel, l.arguments);
  return launch(l, [&] { std::apply(kernel, arguments); });
}

}  // namespace emu

#define EMU_VISIBLE extern "C" __attribute__((visibility("default")))
#define EMU_KERNEL(name)                                                                               \
  EMU_VISIBLE int name##__launch(const Launch *launch) { return emu::launch_packed(name, *launch); }   \
  EMU_VISIBLE void name##__describe(const char *arguments, char *text, size_t size) {                  \
    emu::describe(name, arguments, text, size);                                                        \
  }
