// SPDX-License-Identifier: Apache-2.0
// Which answers wait to be derived again.
#include "serve/self_check.h"

#include <gtest/gtest.h>

#include "serve/limits.h"

namespace etalon::serve {
namespace {

TEST(SelfChecks, HoldLittleAndNothingOfWhoWasErased) {
    boost::asio::io_context io;
    const Dispatcher dispatcher(io, [] { return nullptr; }, {});
    SelfChecks checks(1);
    const std::uint64_t epoch = checks.epoch();
    checks.hold(dispatcher, {1, 0, "a"}, epoch);
    checks.forget();
    checks.hold(dispatcher, {2, 0, "a"}, epoch);  // was computed meanwhile
    EXPECT_FALSE(checks.take(dispatcher));
    checks.hold(dispatcher, {3, 0, std::string(kHeldAnswerBytesMax + 1, 'a')}, checks.epoch());
    EXPECT_FALSE(checks.take(dispatcher));
    for (std::size_t i = 0; i <= kHeldAnswersMax; ++i)
        checks.hold(dispatcher, {i, 0, "a"}, checks.epoch());
    for (std::size_t i = 0; i < kHeldAnswersMax; ++i)
        EXPECT_EQ(checks.take(dispatcher).value().intent, i);
    EXPECT_FALSE(checks.take(dispatcher));
}

}  // namespace
}  // namespace etalon::serve
