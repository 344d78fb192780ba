// SPDX-License-Identifier: Apache-2.0
// The hash by which records and payloads name a model, and that anybody makes with sha256sum.
#pragma once

#include "base/sha256.h"
#include "weights/model_file.h"

namespace etalon::weights {

/// One file of weights: its SHA-256. Several: the SHA-256 of the lines `HASH  NAME\n` of
/// the files, by ascending name without folder: `sha256sum *.safetensors | sha256sum` in the
/// folder of the model. Reads every byte.
Sha256Digest model_hash(const ModelFile& file);

}  // namespace etalon::weights
