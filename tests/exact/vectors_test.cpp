// SPDX-License-Identifier: Apache-2.0
// Every file of spec/vectors is computed again by src/exact.
#include "exact/vectors.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

namespace etalon::exact {
namespace {

std::string read_text(const std::filesystem::path& path) {
    std::ifstream in(path);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

TEST(Vectors, outputs_are_those_of_the_files) {
    int n_files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(ETALON_VECTORS)) {
        const VectorFile file = parse_vector(read_text(entry.path()));
        for (const auto& [key, field] : compute(file)) {
            ASSERT_TRUE(file.count(key) == 1) << entry.path() << " " << key;
            EXPECT_EQ(field.values, file.at(key).values) << entry.path() << " " << key;
        }
        ++n_files;
    }
    EXPECT_EQ(n_files, static_cast<int>(golden_inputs().size()));
}

TEST(Vectors, writing_again_gives_the_same_text) {
    for (auto [name, file] : golden_inputs()) {
        file.merge(compute(file));
        const std::filesystem::path path(std::string(ETALON_VECTORS) + "/" + name + ".txt");
        EXPECT_EQ(read_text(path), to_text(file)) << name;
    }
}

}  // namespace
}  // namespace etalon::exact
