// SPDX-License-Identifier: Apache-2.0
// What this machine is, and where the default model lies.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace etalon::cli {

/// The processor's own name; "unknown" where the kernel does not say.
std::string processor_name();

/// Bytes of physical memory; 0 where the kernel does not say.
std::uint64_t total_memory();

/// Bytes of the largest cache; 0 where the kernel does not say.
std::uint64_t last_cache_bytes();

/// The model that is used when none is named: $ETALON_MODEL, else the file below in
/// $XDG_DATA_HOME/etalon/models (~/.local/share where that is not set).
std::filesystem::path default_model_path();
inline constexpr std::string_view kDefaultModelFile = "SmolLM2-135M-Instruct.Q4_1.gguf";
inline constexpr std::string_view kDefaultModelSha256 =
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

}  // namespace etalon::cli
