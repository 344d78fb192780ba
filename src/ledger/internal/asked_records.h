// SPDX-License-Identifier: Apache-2.0
// Records that another process than the writer asks for: one file of asked/ in the ledger's folder
// for each time, a record a line. The writer gives them their place in the log and removes the
// file; a crash between the two writes them twice, never not at all.
#pragma once

#include <filesystem>
#include <vector>

#include "ledger/record.h"

namespace etalon::ledger {

class AskedRecords {
  public:
    /// Makes the folder. Errors: failure.
    explicit AskedRecords(std::filesystem::path folder);

    /// On disk when this returns. Returns the file, which is gone once the records are in the log.
    /// Errors: failure.
    std::filesystem::path put(const std::vector<Body>& records) const;

    struct Asked {
        std::filesystem::path file;
        std::vector<Body> records;  ///< empty: it holds anything else than put() writes
    };
    /// What waits. Errors: failure, refused (others may read a file).
    std::vector<Asked> waiting() const;

  private:
    std::filesystem::path folder_;
};

}  // namespace etalon::ledger
