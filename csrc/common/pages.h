// Memory pages of large new tensors.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace amodal2 {

// From this size on glibc maps every allocation anew, so that its pages are still missing.
constexpr int64_t kNewPagesBytes = int64_t{32} << 20;

// Has the system provide the pages of memory that is about to be written in one call, which costs
// less than an interruption at the first write to each of them. Linux before 5.14 refuses it, and
// then the pages come with the writes.
inline void provide_pages(void* memory, size_t bytes) {
#if defined(__linux__) && defined(MADV_POPULATE_WRITE)
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t inside = address % static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  madvise(reinterpret_cast<void*>(address - inside), bytes + inside, MADV_POPULATE_WRITE);
#else
  (void)memory;
  (void)bytes;
#endif
}

}  // namespace amodal2
