// SPDX-License-Identifier: Apache-2.0
// Instruction sets: which exist, which this machine runs, which is used.
#include <array>
#include <string>

#include "backend/cpu/kernels.h"
#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace etalon::backend {

namespace {

constexpr std::array kIsas = {Isa::generic, Isa::avx2, Isa::avx512};

#if defined(__x86_64__)
/// F16C has no name in __builtin_cpu_supports of every compiler. The system saves its registers
/// when it saves those of AVX2.
bool has_f16c() {
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif

std::string available_names() {
    std::string names;
    for (const Isa isa : kIsas) {
        if (!isa_is_available(isa)) continue;
        if (!names.empty()) names += ", ";
        names += isa_name(isa);
    }
    return names;
}

}  // namespace

std::string_view isa_name(Isa isa) {
    switch (isa) {
        case Isa::generic:
            return "generic";
        case Isa::avx2:
            return "avx2";
        case Isa::avx512:
            break;
    }
    return "avx512";
}

bool isa_is_available(Isa isa) {
#if defined(__x86_64__)
    if (isa == Isa::avx2) return has_avx2();
    if (isa == Isa::avx512) return has_avx512();
#endif
    return isa == Isa::generic;
}

Isa choose_isa(const char* forced) {
    Isa best = Isa::generic;
    for (const Isa isa : kIsas) {
        if (forced != nullptr && forced == isa_name(isa)) {
            if (isa_is_available(isa)) return isa;
            throw Error(ExitCode::usage,
                        "ETALON_ISA: this machine cannot run " + std::string(forced),
                        "available here: " + available_names());
        }
        if (isa_is_available(isa)) best = isa;
    }
    if (forced == nullptr) return best;
    throw Error(ExitCode::usage,
                "ETALON_ISA: unknown instruction set \"" + printable(forced, 40) + "\"",
                "available here: " + available_names());
}

namespace cpu {

const Kernels& kernels_of(Isa isa) {
    ETALON_ASSERT(isa_is_available(isa));
#if defined(__x86_64__)
    if (isa == Isa::avx2) return kAvx2Kernels;
    if (isa == Isa::avx512) return kAvx512Kernels;
#endif
    return kGenericKernels;
}

}  // namespace cpu

}  // namespace etalon::backend
