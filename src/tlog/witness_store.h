// SPDX-License-Identifier: Apache-2.0
// A witness of some logs with its memory on a disk: for each log the last checkpoint that it
// signed.
//   FolderDisk disk("/var/lib/witness");
//   WitnessStore witness(disk, key, logs);
//   const WitnessAnswer answer = witness.take(body, now);   // may be sent at once
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tlog/disk.h"
#include "tlog/witness.h"

namespace etalon::tlog {

class WitnessStore {
  public:
    /// `disk` outlives the witness. Errors: usage (two keys for one log), invalid (a file is no
    /// checkpoint of its log), failure.
    WitnessStore(Disk& disk, SigningKey key, const std::vector<VerifierKey>& logs);

    /// As add_checkpoint(), and 404: a log that this witness does not know. What the witness signed
    /// is on disk when this returns. Errors: failure; nothing may be sent then.
    WitnessAnswer take(std::string_view body, std::int64_t now);

    const VerifierKey& verifier() const noexcept { return key_.verifier(); }
    /// Size 0 where nothing was signed yet. The log must be known.
    const Checkpoint& last(const std::string& origin) const { return logs_.at(origin).last; }

  private:
    struct Log {
        VerifierKey key;
        std::string path;
        Checkpoint last;
    };
    void remember(Log& log, const Checkpoint& checkpoint);

    Disk& disk_;
    SigningKey key_;
    std::map<std::string, Log> logs_;  // by origin
};

}  // namespace etalon::tlog
