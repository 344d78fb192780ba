// SPDX-License-Identifier: Apache-2.0
// Words that blocks pass to each other together with the number of their turn. An access of 128
// bits, or of 64, is not torn, so that who reads the turn has the words too: neither side needs a
// fence, for which the copies that are under way would be waited for (PTX ISA, memory consistency
// model). A reader has to use all words of an access: the compiler drops those that are not used,
// and reads what is left of 128 bits by several accesses.
#pragma once

#include <cstdint>

namespace etalon::backend::cuda {

struct alignas(16) Packet {
    float v[3];
    std::uint32_t turn;
};

/// The second half of a packet, where it has one value only.
struct alignas(8) Single {
    float v;
    std::uint32_t turn;
};

__device__ inline void packet_store(Packet* to, float a, float b, float c, std::uint32_t turn) {
    asm volatile(
        "{\n"
        ".reg .b128 all;\n"
        ".reg .b64 low, high;\n"
        "mov.b64 low, {%1, %2};\n"
        "mov.b64 high, {%3, %4};\n"
        "mov.b128 all, {low, high};\n"
        "st.relaxed.gpu.global.b128 [%0], all;\n"
        "}" ::"l"(to),
        "r"(__float_as_uint(a)), "r"(__float_as_uint(b)), "r"(__float_as_uint(c)), "r"(turn)
        : "memory");
}

/// What is there now, of whichever turn.
__device__ inline Packet packet_load(const Packet* from) {
    std::uint32_t a;
    std::uint32_t b;
    std::uint32_t c;
    std::uint32_t turn;
    asm volatile(
        "{\n"
        ".reg .b128 all;\n"
        ".reg .b64 low, high;\n"
        "ld.relaxed.gpu.global.b128 all, [%4];\n"
        "mov.b128 {low, high}, all;\n"
        "mov.b64 {%0, %1}, low;\n"
        "mov.b64 {%2, %3}, high;\n"
        "}"
        : "=r"(a), "=r"(b), "=r"(c), "=r"(turn)
        : "l"(from)
        : "memory");
    return {{__uint_as_float(a), __uint_as_float(b), __uint_as_float(c)}, turn};
}

/// The packet of that turn, from what was loaded of it before.
__device__ inline void packet_wait(const Packet* from, std::uint32_t turn, Packet& packet) {
    while (packet.turn != turn)
        packet = packet_load(from);
}

__device__ inline void single_store(Packet* to, float v, std::uint32_t turn) {
    asm volatile(
        "{\n"
        ".reg .b64 all;\n"
        "mov.b64 all, {%1, %2};\n"
        "st.relaxed.gpu.global.b64 [%0], all;\n"
        "}" ::"l"(&to->v[2]),
        "r"(__float_as_uint(v)), "r"(turn)
        : "memory");
}
__device__ inline Single single_load(const Packet* from) {
    std::uint32_t v;
    std::uint32_t turn;
    asm volatile(
        "{\n"
        ".reg .b64 all;\n"
        "ld.relaxed.gpu.global.b64 all, [%2];\n"
        "mov.b64 {%0, %1}, all;\n"
        "}"
        : "=r"(v), "=r"(turn)
        : "l"(&from->v[2])
        : "memory");
    return {__uint_as_float(v), turn};
}
__device__ inline float single_wait(const Packet* from, std::uint32_t turn, Single single) {
    while (single.turn != turn)
        single = single_load(from);
    return single.v;
}

}  // namespace etalon::backend::cuda
