// SPDX-License-Identifier: Apache-2.0
// Policies (C2SP tlog-policy): which log, and which witnesses must have seen a checkpoint.
//   log etalon.example/ghent+1f2e3d4c+AW...
//   witness audit audit.example/w+2a3b4c5d+BG... https://witness.audit.example
//   group both 2 audit court
//   quorum both
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tlog/checkpoint.h"
#include "tlog/note.h"

namespace etalon::tlog {

inline constexpr std::size_t kPolicyBytesMax = 1 << 20;
inline constexpr std::size_t kPolicyNamesMax = 1000;

struct Policy {
    struct Group {
        std::size_t threshold = 0;
        std::vector<std::string> members;  ///< witnesses or groups that are defined before
    };

    std::vector<VerifierKey> logs;
    std::map<std::string, VerifierKey> witnesses;
    std::map<std::string, std::string> urls;  ///< of witnesses that have one, as they stand there
    std::map<std::string, Group> groups;
    std::string quorum;  ///< a witness or a group; "none": no witness is needed
};

/// Errors: invalid, with the number of the line.
Policy parse_policy(std::string_view text);

/// Whether a log of the policy that has this name signed the note. Errors: invalid (a signature
/// that names a key of the policy is wrong: signed-note lets such a note be refused whole).
bool is_signed_by_log(const Note& note, const Policy& policy, std::string_view name);

/// The checkpoint, once a log of the policy signed it and its quorum saw it. Errors: invalid.
Checkpoint open_checkpoint(const Note& note, const Policy& policy);

}  // namespace etalon::tlog
