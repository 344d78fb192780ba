// SPDX-License-Identifier: Apache-2.0
// Base64: no two texts stand for the same bytes.
#include "base/base64.h"

#include <cstddef>
#include <gtest/gtest.h>
#include <string>

namespace etalon {
namespace {

TEST(Base64, one_spelling_of_each_text) {
    for (std::size_t size = 0; size < 70; ++size) {
        std::string bytes;
        for (std::size_t i = 0; i < size; ++i)
            bytes += static_cast<char>(i * 37 + size);
        const std::string text = to_base64(bytes);
        EXPECT_EQ(text.size(), (size + 2) / 3 * 4);
        EXPECT_EQ(from_base64(text), bytes);
        // No other text of this length is read as the same bytes.
        for (std::size_t i = 0; i < text.size(); ++i) {
            for (int bit = 0; bit < 8; ++bit) {
                std::string other = text;
                other[i] = static_cast<char>(other[i] ^ (1 << bit));
                EXPECT_NE(from_base64(other), bytes) << other;
            }
        }
    }
    EXPECT_EQ(to_base64("etalon"), "ZXRhbG9u");
    for (const char* wrong : {"Z", "ZX", "ZXR", "ZXRh\n", "ZX=h",
                              "Z===", "====", "ZXRh====", "ZXRhbG9=", "ZXRhbE==", "ZXR-", "ZXR_"})
        EXPECT_FALSE(from_base64(wrong).has_value()) << wrong;
}

}  // namespace
}  // namespace etalon
