// SPDX-License-Identifier: Apache-2.0
// Vectors whose storage starts on a cache line, so that a 64-byte load never crosses one.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace etalon::backend::cpu {

inline constexpr std::size_t kCacheLine = 64;

template <typename T>
struct AlignedAllocator {
    using value_type = T;
    AlignedAllocator() = default;
    template <typename U>
    AlignedAllocator(const AlignedAllocator<U>&) noexcept {}  // NOLINT(google-explicit-constructor)
    T* allocate(std::size_t n) {
        return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{kCacheLine}));
    }
    void deallocate(T* p, std::size_t) noexcept { ::operator delete(p, std::align_val_t{kCacheLine}); }
    bool operator==(const AlignedAllocator&) const noexcept { return true; }
};

template <typename T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

}  // namespace etalon::backend::cpu
