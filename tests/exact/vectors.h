// SPDX-License-Identifier: Apache-2.0
// Golden vectors: reading and writing the files of spec/vectors, and what each operation computes
// from its inputs. spec/README.md describes the format.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace etalon::exact {

/// `text` has no values, the other types hold each value as 64 bits.
struct VectorField {
    std::string type;
    std::vector<std::uint64_t> values;
    std::string text;
};
using VectorFile = std::map<std::string, VectorField>;

std::string to_text(const VectorFile& file);
VectorFile parse_vector(const std::string& text);

/// The fields out_* of the operation that the file names, computed by src/exact from its inputs.
VectorFile compute(const VectorFile& inputs);

/// Names and inputs of all golden vectors.
std::map<std::string, VectorFile> golden_inputs();

}  // namespace etalon::exact
