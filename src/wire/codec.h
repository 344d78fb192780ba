// SPDX-License-Identifier: Apache-2.0
// Messages to frames and back. A frame is one FlatBuffer of messages.fbs with the direction as its
// file identifier, so that a frame of one direction is no frame of the other.
//
//   const std::string frame = encode(ToWorker(Go{.id = 1}));
//   const ToWorker message = decode_to_worker(frame);
#pragma once

#include <string>
#include <string_view>

#include "wire/messages.h"

namespace etalon::wire {

/// Errors: usage (a field is over its limit of limits.h or is not UTF-8 where that is promised; the
/// whole is over kFrameBytesMax). The message names the field.
std::string encode(const ToWorker& message);
std::string encode(const ToFront& message);

/// Checked: the frame is a FlatBuffer within itself, enumerations, counts and sizes are in range,
/// texts are UTF-8, numbers of the worker are no NaN, and all copies together are no larger than
/// the frame (offsets that share a string cannot multiply it). Not checked: what needs the model or
/// the messages before. Errors: invalid (with the field).
ToWorker decode_to_worker(std::string_view frame);
ToFront decode_to_front(std::string_view frame);

}  // namespace etalon::wire
