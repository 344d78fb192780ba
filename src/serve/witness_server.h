// SPDX-License-Identifier: Apache-2.0
// The HTTP side of a witness (C2SP tlog-witness): POST /add-checkpoint. What passes is public and
// signed, so there are no keys; TLS is for a proxy in front.
#pragma once

#include <functional>

#include "serve/server.h"
#include "tlog/witness_store.h"

namespace etalon::serve {

/// Answers until SIGTERM or SIGINT. `on_listening` is told the address with its port. Errors: usage
/// (no address), unavailable (it is taken).
void run_witness(const Listen& listen, tlog::WitnessStore& witness,
                 const std::function<void(const Listen& listen)>& on_listening);

}  // namespace etalon::serve
