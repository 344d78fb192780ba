// SPDX-License-Identifier: Apache-2.0
// Which record completes which intent: a file with eight bytes for each record of the log. It says
// nothing that the log does not: it can be deleted, and is made again from the log.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "tlog/tile_reader.h"

namespace etalon::ledger {

class Completions {
  public:
    /// Opens the file and brings it up to `size` records. Errors: failure; those of the log.
    Completions(const std::filesystem::path& path, const tlog::FileSource& log, std::uint64_t size);
    ~Completions();
    Completions(const Completions&) = delete;
    Completions& operator=(const Completions&) = delete;

    /// Errors: failure.
    void put(std::uint64_t intent, std::uint64_t complete);
    /// Safe from any thread. nullopt: none is known.
    std::optional<std::uint64_t> get(std::uint64_t intent) const;

  private:
    int fd_ = -1;
};

}  // namespace etalon::ledger
