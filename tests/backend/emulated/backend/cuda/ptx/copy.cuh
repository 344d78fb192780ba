// SPDX-License-Identifier: Apache-2.0
// Loads, and asynchronous copies: at once, or when they are waited for.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace etalon::emulated {

inline bool copies_are_late = false;

struct Copy {
    void* to;
    const void* from;
    std::size_t bytes;
};
inline thread_local std::vector<Copy> open_copies;
inline thread_local std::vector<std::vector<Copy>> groups;

inline void start_copy(void* to, const void* from, std::size_t bytes) {
    for (const void* address : {static_cast<const void*>(to), from}) {
        if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0)
            throw std::logic_error("a copy that is not aligned");
    }
    if (copies_are_late) {
        open_copies.push_back({to, from, bytes});
    } else {
        std::memcpy(to, from, bytes);
    }
}

}  // namespace etalon::emulated

namespace etalon::backend::cuda {

inline std::uint32_t load_streaming_4(const std::uint32_t* address) {
    return *address;
}
inline std::uint16_t load_2(const std::uint16_t* address) {
    return *address;
}
inline int load_signed_1(const void* address) {
    return *static_cast<const std::int8_t*>(address);
}

inline std::byte* keep_shared(void* shared) {
    return static_cast<std::byte*>(shared);
}

inline void copy_async_16(void* to_shared, const void* from) {
    emulated::start_copy(to_shared, from, 16);
}
inline void copy_async_4(void* to_shared, const void* from) {
    emulated::start_copy(to_shared, from, 4);
}
inline void copy_async_commit() {
    emulated::groups.push_back(std::move(emulated::open_copies));
    emulated::open_copies.clear();
}
template <int kLeft>
void copy_async_wait() {
    auto& groups = emulated::groups;
    while (groups.size() > kLeft) {
        for (const emulated::Copy& copy : groups.front())
            std::memcpy(copy.to, copy.from, copy.bytes);
        groups.erase(groups.begin());
    }
}

}  // namespace etalon::backend::cuda
