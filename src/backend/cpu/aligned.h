// SPDX-License-Identifier: Apache-2.0
// Vectors whose storage starts on a cache line, so that a 64-byte load never crosses one, and on
// a large page where they are large.
#pragma once

#include <cstddef>
#include <new>
#include <sys/mman.h>
#include <vector>

namespace etalon::backend::cpu {

inline constexpr std::size_t kCacheLine = 64;
inline constexpr std::size_t kLargePage = std::size_t{2} << 20;

template <typename T>
struct AlignedAllocator {
    using value_type = T;
    AlignedAllocator() = default;
    template <typename U>
    AlignedAllocator(const AlignedAllocator<U>&) noexcept {}  // NOLINT(google-explicit-constructor)
    T* allocate(std::size_t n) {
        const std::size_t bytes = n * sizeof(T);
        void* p = ::operator new(bytes, alignment(bytes));
        // A wish: where the kernel does not grant it, pages are small and the bits the same.
        if (bytes >= kLargePage) ::madvise(p, bytes, MADV_HUGEPAGE);
        return static_cast<T*>(p);
    }
    void deallocate(T* p, std::size_t n) noexcept {
        ::operator delete(p, alignment(n * sizeof(T)));
    }
    static constexpr std::align_val_t alignment(std::size_t bytes) noexcept {
        return std::align_val_t{bytes >= kLargePage ? kLargePage : kCacheLine};
    }
    bool operator==(const AlignedAllocator&) const noexcept { return true; }
};

template <typename T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

}  // namespace etalon::backend::cpu
