// SPDX-License-Identifier: Apache-2.0
// Which sequences can go on before their newest token is known: the device puts the token that it
// draws into the next pass itself (Backend::can_follow), and everything else about that pass must
// follow from what the host knows.
#pragma once

#include "engine/scheduler.h"

namespace etalon::engine {

/// Whether the token behind the one that `share`, of a pass under way, draws can be drawn without
/// knowing that one: nothing of the share is left to the host, no choice waits for it, and neither
/// a mask nor penalties read the answer.
bool can_look_ahead(const Share& share);

/// Whether speculation would propose something for the tokens that are known: it then comes with
/// the step that knows one more. `draft_tokens_max` as in StepLimits.
bool would_draft(const Sequence& sequence, int draft_tokens_max);

}  // namespace etalon::engine
