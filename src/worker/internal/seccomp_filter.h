// SPDX-License-Identifier: Apache-2.0
// The two filters of system calls: the allow-list of a worker, and the seal once it is loaded.
#pragma once

#include <string>

namespace etalon::worker {

/// Loads the allow-list for all threads, with what the driver of a card asks for where there is
/// one. "" when it holds, else why not.
std::string load_worker_filter(bool has_card);

/// Loads the second filter: no opening, no new thread. "" when it holds, else why not.
std::string load_seal_filter();

}  // namespace etalon::worker
