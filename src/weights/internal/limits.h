// SPDX-License-Identifier: Apache-2.0
// Limits on what a model file may claim, beside those of model_config.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "weights/model_config.h"

namespace etalon::weights {

/// Pairs of metadata in a GGUF file: converters write some dozens.
inline constexpr std::uint64_t kGgufPairsMax = 1 << 16;
/// Tensors of a model: 1,024 layers of 16 and the experts, scales and indices of all; some more.
inline constexpr std::uint64_t kTensorsMax = 1 << 19;
static_assert(3 * (kLayersMax * 16 + kExpertsAllMax * 3) < std::int64_t{kTensorsMax});
/// Bytes of a GGUF key: the format's own limit.
inline constexpr std::uint64_t kKeyBytesMax = 65535;
/// Bytes of a tensor's name: GGUF allows 64, safetensors more.
inline constexpr std::uint64_t kNameBytesMax = 512;
/// Bytes of a string in GGUF metadata: the longest known chat template has 20 KB.
inline constexpr std::uint64_t kStringBytesMax = std::uint64_t{16} << 20;
/// Alignment of GGUF tensors: a power of two; 32 where the file says nothing.
inline constexpr std::uint64_t kGgufAlignmentDefault = 32;
inline constexpr std::uint64_t kGgufAlignmentMax = 1 << 16;
/// Bytes of a safetensors header: the limit of the format's own library.
inline constexpr std::uint64_t kSafetensorsHeaderMax = 100'000'000;
/// Depth of JSON in any file: headers and configurations need four.
inline constexpr int kJsonDepthMax = 32;
/// Bytes of config.json, generation_config.json and an index.
inline constexpr std::size_t kConfigBytesMax = std::size_t{4} << 20;
inline constexpr std::size_t kIndexBytesMax = std::size_t{64} << 20;
/// Files of a sharded model: the largest known has 191.
inline constexpr std::size_t kShardsMax = 4096;

/// Digests in one signature: 2 TiB in shards of kSignedShardBytes.
inline constexpr std::size_t kSignedRangesMax = std::size_t{1} << 17;
/// Bytes of a bundle: kSignedRangesMax digests with their names, in base64.
inline constexpr std::size_t kBundleBytesMax = std::size_t{40} << 20;
/// Files in the folder of a signed model, and folders below folders there.
inline constexpr std::size_t kModelFilesMax = 4096;
inline constexpr int kModelFoldersDeepMax = 16;
/// Bytes of a file's name in a signature: PATH_MAX.
inline constexpr std::size_t kSignedNameBytesMax = 4096;
/// Names that a signature may leave out: git's four, the signature, and some of the signer's.
inline constexpr std::size_t kIgnoredNamesMax = 256;
/// A bundle holds what it lists: a line of kSignedRangesMax has 220 bytes with a short name.
static_assert(kSignedRangesMax * 220 / 3 * 4 <= kBundleBytesMax);

}  // namespace etalon::weights
